//! The programs as operators run them: storage, health, metrics, images, the command line, and chaos.

mod backups;
mod certificates;
mod chaos;
mod cli;
mod contract;
mod dashboard;
mod databases;
mod dependencies;
mod disk;
mod file_permissions;
mod harness;
mod health;
mod images;
mod key_rotations;
mod metrics;
mod monitoring;
mod purge;
mod storage;
mod storage_purge;
mod storage_usage;
mod structured_logs;
mod systemd_unit;
