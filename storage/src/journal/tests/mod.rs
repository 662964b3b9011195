//! The journal over disks and stores that keep, lose, tear and damage.
#![expect(clippy::cast_possible_truncation, reason = "positions and sizes are small here")]

mod behaviour;
mod crash;
mod damage;
mod golden;
mod mending;
mod model;
mod recycling;
mod rig;
mod space;
