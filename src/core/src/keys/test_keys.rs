//! Keys and lines for tests. It holds no check of its own.

/// An Ed25519 key as a `.pub` file has it.
pub const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAkd9Og1m9De7DZPdBm2Y9bX57ZB1owN+SKXnYRLfdTg";
/// The fingerprint of [`ED25519`] by `ssh-keygen -l`.
pub const ED25519_FINGERPRINT: &str = "SHA256:UMSqbSyZVQfw3vozE+3lV1gU1vyERhZ2pCjvorICjfk";
/// An RSA key of 2048 bits.
pub const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDJ7TbBhD9Loo3rF//pSiR0cTZyjsFeOT1dqjg1UsmpWk1qtBLyTpyV+nw4PPZ/ZchSeLSUcHUuly3h89wS23ic2sXpKc3RFXf6y5j9gFqvMrWLCo+f98SvSb5Ih9szfl7+0O0dBInYpUDoSydfJD3jLTm+m1C0egnZW4PN8N3mxnuW6uxH10g/SdN3hcvZdP80SDrqNksAJuTbCiLE6WEFPOJBWHs+JnRBweRAoAIiLL4PMo2dgDLvBQjC5dcOO2bceKVpqgzTEaDKXfCFlTBSLzmH8hI2utS0ZXg+/sygDyyRaxYTKoqvdFC2/dZ4kAQvAAFNMYqsr2TYBzTUipjx";
/// The fingerprint of [`RSA`].
pub const RSA_FINGERPRINT: &str = "SHA256:7lbmHEd9Xf9z27mykHD319iNcBuys/RFhV2UtslbyLs";
/// An RSA key of 1024 bits.
pub const RSA_1024: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDL/GLKEEe5CdNrxloZvt5miJ7y4gfnI8awKlWiA02eXZHbO1Jgv+EnVe/TbXkBAhyfdtJmk19Q6E5LgpFrMJHLtuTddH9CoybS6vtHj/CrPtfEIMNnPzzAbgWDnFu/UIjYtQWt7FvRN7qnG9HKk0XnS0HFGCDqha+kPBoFN80j2w==";
/// An ECDSA key.
pub const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBH1SgjqfUbRzhKLFXVrqzShTMgnJKIvhr60Tf98JLYzK3KEFK8PR7RlCbDw+aRdcPYxUPmWLwgE+p9pKyhb0Jtw=";
/// The fingerprint of [`P256`].
pub const P256_FINGERPRINT: &str = "SHA256:6oV15GyJRUFMichvCXpJ9OKlGGD1mTXN/BMKre9vqN0";
/// An Ed25519 key of a security device.
pub const SK_ED25519: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAPMj6wkmR3hnZ/7PcgTxdf8aImTAYAuz+lL0D/NYSRMAAAABHNzaDo=";
/// An ECDSA key of a security device.
pub const SK_P256: &str = "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBH/prLvUO96EXkz++PrRkhfEZpGIBSAziX1ZjY2Jx0lU4J/Thw9hMygVtFoGR9d5gT2UeqkwE5YhgpL5/QNjbowAAAAEc3NoOg==";
/// A DSA key, which sshd takes no more.
pub const DSA: &str = "ssh-dss AAAAB3NzaC1kc3MAAACBAJLfHp/xJJb0Qw8ai1nZwMKSpHQQTDMIUypCWE7EH7DKxXjfI7REyg9M287xzxM3Ba1rRyjHiqHWgnnN1dx5PIUeYA0NXAKp6nUOOkjlBftrCoiXhTREoJp5uaPzrv7NLx3ibHZbNnnOf3bWEKhyd69iFgVr45vrdIOtWu8280nrAAAAFQDpuMNOLkNbqEOSY0vr3nW77T3LsQAAAIB7GNoKVEk8HrxzWFqvtRfBWxggTPw/2byR3D/FUnWy1nQpvSSgvBac56N1vXKRQ7BTdg6HeVpNAPRAp2yDI0l1acnCk6t9w4jjxefPmI9cXqEJY7TsUu5fBJLy8EZwp6wIv8TuSA/R4G+WA049URfxLQy9diDQIKXHkYrWOG2SCAAAAIEAkXMVjvFilk9ND5YmZBOVilvGvRo7WWFHk0lxDzsuSsDVAPfpusTWDf1bkd8joF783JQ7ieXLcXrbii5ec8YdNZ4kievuPwnVbVN7Z5fDXtj3gsb5GEn0gb8dsY6M7btnTOewZEEBV9pp8ir0fkFMU1+2XCK39ynxZKcUFENecGs=";
/// A certificate over an Ed25519 key.
pub const CERTIFICATE: &str = "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAICptpbj/WFwwuwllTmMkW6/ZCcx1lYtXDP/2ERWKRArQAAAAIIFHu7x1TKYCDyxLtgqy1sARTrLshXco7EtyrT1uxtU7AAAAAAAAAAAAAAABAAAAAXgAAAAJAAAABWZyYW5rAAAAAAAAAAD//////////wAAAAAAAACCAAAAFXBlcm1pdC1YMTEtZm9yd2FyZGluZwAAAAAAAAAXcGVybWl0LWFnZW50LWZvcndhcmRpbmcAAAAAAAAAFnBlcm1pdC1wb3J0LWZvcndhcmRpbmcAAAAAAAAACnBlcm1pdC1wdHkAAAAAAAAADnBlcm1pdC11c2VyLXJjAAAAAAAAAAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIIIIvjIfqun6jdcjNNiKXlqA2WDZzbTz4mhRxCU3AJY/AAAAUwAAAAtzc2gtZWQyNTUxOQAAAEDG4ZKvLWxJzQt8ym/bVF6/4MlKREdHELJicssOCOL9zfDqY8F5FBjXSYSsFnp80JF87FzjIUhVf5aIoIgr8lsB";

/// Bytes that look like lines of a key file often enough to get far into the reader.
#[cfg(test)]
pub(crate) fn almost_lines() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;

    let piece = prop_oneof![
        Just(ED25519.as_bytes().to_vec()),
        Just(P256.as_bytes().to_vec()),
        Just(CERTIFICATE.as_bytes().to_vec()),
        "[ \t\n\r,\"\\\\=#]{1,3}".prop_map(String::into_bytes),
        "(restrict|no-pty|cert-authority|command=\"|from=\"\\*\"|expiry-time=\"20[0-9]{6}\"|principals=\"x\"|tunnel=\"1\")"
            .prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}
