//! The journal over disks and stores that keep, lose, tear and damage.

mod behaviour;
mod rig;
