//! Which machine an image is for (OCI image-spec 1.1, `image-index.md`, key `platform`).

use std::fmt;

/// An operating system and a processor, in Go's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, `386`.
    pub architecture: String,
    /// `v5` to `v8` for ARM; empty elsewhere.
    pub variant: String,
}

impl Platform {
    /// A Linux platform.
    pub fn linux(architecture: &str, variant: &str) -> Self {
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.into() }
    }

    /// The machine that this runs on. The kernel says which, as one program for ARMv6 runs on all of them.
    pub fn host() -> Self {
        Self::of_machine(&minke_sys::machine::name())
    }

    /// The platform of a machine in the kernel's names.
    fn of_machine(name: &str) -> Self {
        match name {
            "x86_64" => Self::linux("amd64", ""),
            "aarch64" => Self::linux("arm64", "v8"),
            "i386" | "i486" | "i586" | "i686" => Self::linux("386", ""),
            _ if name.starts_with("armv5") => Self::linux("arm", "v5"),
            _ if name.starts_with("armv6") => Self::linux("arm", "v6"),
            // A 64-bit kernel calls itself armv8l to 32-bit programs.
            _ if name.starts_with("armv") => Self::linux("arm", "v7"),
            other => Self::linux(other, ""),
        }
    }

    /// How well an image for `self` runs on `machine`: `None` not at all, a higher number is better.
    pub fn fitness(&self, machine: &Self) -> Option<u32> {
        if self.os != machine.os {
            return None;
        }
        let level = self.level()?;
        let host = (machine.architecture.as_str(), machine.level()?);
        match (self.architecture.as_str(), host) {
            (own, (other, host)) if own == other => (level <= host).then(|| level.saturating_add(100)),
            // 64-bit kernels run 32-bit programs, most of the time.
            ("arm", ("arm64", _)) | ("386", ("amd64", _)) => (level <= 8).then_some(level),
            _ => None,
        }
    }

    /// The variant as a number. An ARM image without a variant is v7, an arm64 one v8 (containerd's
    /// normalisation), others have none.
    fn level(&self) -> Option<u32> {
        let digits = self.variant.strip_prefix('v').unwrap_or(&self.variant);
        match (self.architecture.as_str(), digits) {
            ("arm", "") => Some(7),
            ("arm64", "") => Some(8),
            (_, "") => Some(1),
            // v8.1 and the like: the minor step does not matter here.
            (_, digits) => digits.split('.').next().and_then(minke_wire::text::number),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best<'a>(machine: &str, images: &[&'a str]) -> Option<&'a str> {
        let machine = Platform::of_machine(machine);
        let fitness = |image: &str| {
            let (architecture, variant) = image.split_once('/').unwrap_or((image, ""));
            Platform::linux(architecture, variant).fitness(&machine)
        };
        images.iter().copied().filter(|image| fitness(image).is_some()).max_by_key(|image| fitness(image))
    }

    #[test]
    fn each_board_gets_the_best_image_that_runs_on_it() {
        let all = ["386", "amd64", "arm/v5", "arm/v6", "arm/v7", "arm64/v8", "riscv64"];
        assert_eq!(best("armv6l", &all), Some("arm/v6"));
        assert_eq!(best("armv7l", &all), Some("arm/v7"));
        assert_eq!(best("armv8l", &all), Some("arm/v7"));
        assert_eq!(best("aarch64", &all), Some("arm64/v8"));
        assert_eq!(best("x86_64", &all), Some("amd64"));
        assert_eq!(best("aarch64", &["arm/v6", "arm/v7", "amd64"]), Some("arm/v7"));
        assert_eq!(best("armv6l", &["arm/v7", "arm", "arm64"]), None);
        assert_eq!(best("armv6l", &["arm/v5", "arm/v7"]), Some("arm/v5"));
        assert_eq!(best("armv7l", &["arm/v6", "arm"]), Some("arm"));
        assert_eq!(best("aarch64", &["arm64", "arm/v7"]), Some("arm64"));
        let mut windows = Platform::linux("amd64", "");
        windows.os = "windows".into();
        assert_eq!(windows.fitness(&Platform::of_machine("x86_64")), None);
        assert_eq!(Platform::linux("arm", "vx").fitness(&Platform::of_machine("armv7l")), None);
        assert!(Platform::host().fitness(&Platform::host()).is_some());
    }
}
