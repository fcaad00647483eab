//! Versions of Coord's server, as far as they must be compared.

/// Major, minor and patch. The suffix (`-rc.1`, a hash of a build) tells builds apart, and not their features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64, pub u64, pub u64);

impl Version {
    /// Of `0.1.0`, `v0.2.0-rc.1` or `0.1.0-5d41`; `None` of anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let numbers = text.split(['-', '+']).next()?;
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let version = Self(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }

    /// The version in the tag of an image; `None` if it is no version, or only a digest is given.
    pub fn of_image(image: &str) -> Option<Self> {
        let name = image.split('@').next()?.rsplit('/').next()?;
        Self::parse(name.split_once(':')?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn tags_and_digests_are_told_apart_and_builds_are_not() {
        for (image, version) in [
            ("coord.dev/coord-server:0.1.0", Some(Version(0, 1, 0))),
            (
                "coord.dev/coord-server:0.1.0-5d41402a",
                Some(Version(0, 1, 0)),
            ),
            (
                "registry:5000/coord:v0.12.3-rc.1@sha256:00",
                Some(Version(0, 12, 3)),
            ),
            ("registry:5000/coord", None),
            ("coord@sha256:00", None),
            ("coord:latest", None),
            ("coord:1.2", None),
            ("coord:1.2.3.4", None),
        ] {
            assert_eq!(Version::of_image(image), version, "{image}");
        }
        assert!(Version(0, 10, 0) > Version(0, 9, 1));
    }
}
