//! What most plug-ins and programs name: `use ibhost_framework::prelude::*;`.

pub use crate::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Results};
pub use crate::build::{BuildContext, BuildError, Initial};
pub use crate::component::resolve;
pub use crate::dataset::{Batch, DataError, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Scaling, Split, Values};
pub use crate::decoder::{Decoder, DecoderConfig};
pub use crate::encoder::{Encoder, EncoderConfig};
pub use crate::engine::{EngineError, Quiet, Session, Trainer};
pub use crate::identity::OtherDataPolicy;
pub use crate::noise::{Draws, Noise};
pub use crate::objective::{Classifier, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, Quantity, Recipe};
pub use crate::registry::{Kind, Registry};
pub use crate::run::{RunConfig, Settings};
pub use crate::storage::Label;
