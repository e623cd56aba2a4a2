//! The fixed MESSAGE_ID of each type of record, by which the catalog explains it (`journalctl -x`). The ids never change;
//! `systemd/lockdownd.catalog` has an entry for each.

use record::ArtifactType;

/// The MESSAGE_ID of "records did not reach the journal", which is no record itself.
pub const DROPPED_ID: &str = "7a750000370d4f48ae1ef90e9dae545a";

/// The fixed MESSAGE_ID of a type, sd_journal_send(3).
#[must_use]
pub fn message_id(kind: ArtifactType) -> &'static str {
    match kind {
        ArtifactType::LedgerOpened => "0562d14e7c51e90fa3f6cd7a97f4ff3d",
        ArtifactType::LedgerSegment => "5ae870b8e2a5c35a18e3575fcf444059",
        ArtifactType::LedgerPruned => "9a1c9180d6e650a062c03fdfe626ab2c",
        ArtifactType::KeyRotated => "efbee3999dea12d034453718f2e0508b",
        ArtifactType::DaemonStarted => "0296115e2f382caea3ac3e7b25a4f4ec",
        ArtifactType::DaemonStopped => "d1269aa07de5bc97beb467b00bd9ee9c",
        ArtifactType::ConfigLoaded => "a9f5c0c4c8c5c2f96f264c05447d8b7a",
        ArtifactType::ConfigRefused => "8f82c8d3e6ed66511347894731f718b3",
        ArtifactType::ModeChanged => "6199421dac31d0b4b59e293b13deaef1",
        ArtifactType::ClockStepped => "03c5ad49a7d92b12d010e5fd0dbf24e9",
        ArtifactType::GrantCreated => "4bb4d7dbb1eb285400121df917dba31e",
        ArtifactType::GrantEnded => "1d0fcd406f05fb0c7a423b811ef12996",
        ArtifactType::Lockdown => "a98bb744cab33e61e138429f90962524",
        ArtifactType::KeyRemoved => "5d116c23bf89c6614d84deaa98d10b97",
        ArtifactType::RemovalFailed => "4a2a1574eef9a63f9a76bebfea0d932b",
        ArtifactType::QuarantineRestored => "566296442c226bfac7aabcd75e6c0078",
        ArtifactType::SessionOpened => "2258a5d4272306dbe63c930c2a1c1593",
        ArtifactType::SessionClosed => "1fa03c56ce6b54e1d0d3a0d51b2d9735",
        ArtifactType::SessionTerminated => "92cb0bb510c18a70c24b0a31dbc6295a",
        ArtifactType::SessionRefused => "1b01dc219ce6afb6f0136d82f311647a",
        ArtifactType::LoginFailed => "8893cb8bc6148a05eb2e52c845e60180",
        ArtifactType::JournalGap => "d2746679a012d16113a61c837ff856af",
        ArtifactType::ShipDropped => "51a96487da63d23884a1175752622a90",
        ArtifactType::SshdChanged => "4e7cd585efb8400ae8806736efd75ca9",
        ArtifactType::SweepAttested => "d1f51d3ee1092f8e4bd2c17df862eea8",
        ArtifactType::EmergencyLogin => "41cfe46999919f01d8ad369cfeff1007",
        ArtifactType::DocumentAccepted => "f3cd382ea319eb4964c494fc11ebebfc",
        ArtifactType::DocumentRefused => "02aa04db128076fc501900e4bfc1f62b",
    }
}
