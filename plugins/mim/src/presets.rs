//! Settings of the paper's experiments as presets.
