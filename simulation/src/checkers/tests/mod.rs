//! The judges judged: stories told by hand, histories drawn by chance, and the
//! same histories with one thing broken.

mod broken;
mod engine;
mod generated;
mod linearizable;
mod oracle;
mod registers;
mod story;
