//! Data of users' own: folders of pictures, arrays and tables as other programs write them, as the data set `file`.

pub mod arrays;
pub mod column;
pub mod divide;
pub mod file;
pub mod folder;
pub mod picture;
pub mod records;
pub mod scale;
pub mod table;

mod bytes;
mod idx;
mod numpy;
