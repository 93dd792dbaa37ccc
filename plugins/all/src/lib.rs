//! Every plug-in of this checkout under one name, and the only list of them: `use ibhost_all as _;` puts all their components into the
//! registry of a program. A new plug-in crate is added here and in the dependencies beside this file.

pub use ibhost_analyses as analyses;
pub use ibhost_classifiers as classifiers;
pub use ibhost_comparisons as comparisons;
pub use ibhost_datasets as datasets;
pub use ibhost_disenib as disenib;
pub use ibhost_files as files;
pub use ibhost_hit as hit;
pub use ibhost_mim as mim;
pub use ibhost_nets as nets;
pub use ibhost_training as training;
pub use ibhost_vdb as vdb;
pub use ibhost_vib as vib;
