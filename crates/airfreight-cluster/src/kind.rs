//! The kinds of objects that KubeRay acts on.

/// One of KubeRay's kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A cluster.
    Cluster,
    /// A job with a cluster of its own, or on one that is there.
    Job,
    /// Serve applications with a cluster of their own.
    Service,
}

impl Kind {
    /// As descriptions call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "RayCluster",
            Self::Job => "RayJob",
            Self::Service => "RayService",
        }
    }

    /// As paths call it.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Cluster => "rayclusters",
            Self::Job => "rayjobs",
            Self::Service => "rayservices",
        }
    }

    /// A field of the spec without which there would be no cluster: one of these.
    pub(crate) fn needed(self) -> &'static [&'static str] {
        match self {
            Self::Cluster => &["headGroupSpec"],
            Self::Job => &["rayClusterSpec", "clusterSelector"],
            Self::Service => &["rayClusterConfig"],
        }
    }
}
