//! Data sets of ibhost: embedded digits, published images, images with known factors and toy mixtures, with views on them, download and verification.

pub mod augmentation;
pub mod binarised;
pub mod binary_digits;
pub mod binary_mnist;
pub mod chardata;
pub mod cifar;
pub mod cifar10;
pub mod crop;
pub mod digits;
pub mod dsprites;
pub mod factors;
pub mod fashion_mnist;
pub mod fetch;
pub mod file;
pub mod idx;
pub mod idx_set;
pub mod image;
pub mod kfold;
pub mod locate;
pub mod mat;
pub mod mixture;
pub mod mnist;
pub mod numpy;
pub mod omniglot;
pub mod pca;
pub mod scaling;
pub mod shapes;
pub mod small_set;
pub mod sprites;
pub mod svhn;
pub mod toy;
pub mod verify;
pub mod view;
pub mod zip;

mod archive;
mod download;
mod pictures;
mod same;
#[cfg(test)]
mod test_server;
mod there;

pub use fetch::{FetchError, FetchOptions, FetchReport, Progress, fetch};
pub use small_set::two_d_samples;
pub use verify::{Verdict, verify};
pub use view::View;

#[cfg(test)]
mod tests {
    use ibhost_framework::component::resolve;
    use ibhost_framework::dataset::DatasetConfig;
    use ibhost_framework::registry::{Kind, Registry};

    #[test]
    fn every_data_set_has_an_example_that_works() {
        let registry = Registry::global().unwrap();
        assert!(!registry.items(Kind::Dataset).is_empty());
        for item in registry.items(Kind::Dataset) {
            let (component, _) = resolve::<dyn DatasetConfig>(Kind::Dataset, item.example).unwrap();
            assert_eq!(component.to_string(), item.example);
            assert!(item.parameters.iter().all(|parameter| !parameter.doc.is_empty()), "{} has an undocumented parameter", item.name);
        }
    }

    #[test]
    fn views_are_part_of_the_component_string() {
        let parse = |text: &str| resolve::<dyn DatasetConfig>(Kind::Dataset, text);
        let (component, config) = parse("cifar10/augment:true,folds:5,fold:2,scale:unit").unwrap();
        assert_eq!(component.to_string(), "cifar10/scale:unit|augment:true|folds:5|fold:2");
        assert!(format!("{config:?}").contains("folds: Some(5), fold: 2"), "{config:?}");
        for text in ["mnist/scale:standard", "mnist/first:0", "digits/folds:1", "digits/augment:true", "mnist/subset:-1"] {
            assert!(parse(text).is_err(), "{text} should be refused");
        }
    }
}
