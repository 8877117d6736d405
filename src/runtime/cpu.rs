//! What the CPU can do.

/// It has instructions for AES and for the multiplication of GCM. Without them ChaCha20-Poly1305 is faster.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_aes() -> bool {
    is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq")
}

/// As above.
#[cfg(target_arch = "aarch64")]
pub(super) fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

/// As above; on these nothing is known.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn has_aes() -> bool {
    false
}
