//! Whether this node may have a data directory, and who it is there: decided before anything in
//! the directory is changed.
//!
//! A directory without `meta.properties` is new, or one that a first start did not get far with.
//! Any other has to be this node's alone: see [`cluster::quorum::may_take_directory`].

use cluster::quorum::{self, DirectoryClaim};
use model::Uuid;
use storage::LogDirectory;

use crate::{
    Error,
    metadata_log::{self, Contents},
    shard::{Identity, Shard},
    topic_settings::CLUSTER_METADATA,
};

/// Who this node is in its directory.
pub(crate) struct Claim {
    pub(crate) identity: Identity,
    /// `meta.properties` is to be written, once the directory says who votes.
    pub(crate) is_new: bool,
}

/// Judges a directory by what lies in it.
///
/// # Errors
/// Why it cannot be this node's; nothing was changed then.
pub(crate) async fn judge(shard: &Shard, directory: &LogDirectory) -> Result<Claim, Error> {
    let path = directory.path().join(format!("{CLUSTER_METADATA}-0"));
    let has_metadata = directory.partitions().iter().any(|one| one.topic == CLUSTER_METADATA);
    let mut contents = Contents::default();
    if has_metadata {
        Box::pin(metadata_log::look(&shard.runtime, &path, &mut contents)).await?;
    }
    let Some(text) = directory.meta_properties() else {
        let is_empty = contents.metadata.batches.is_empty()
            && directory.partitions().iter().all(|one| one.topic == CLUSTER_METADATA);
        return if is_empty {
            Ok(Claim { identity: new_identity(shard), is_new: true })
        } else {
            refuse(directory, "it holds partitions, and meta.properties is missing")
        };
    };
    let identity = identity_of(shard, directory, text)?;
    if !has_metadata {
        return refuse(
            directory,
            "it has no metadata log, so it is of a broker whose controller is elsewhere, or one \
             of several log directories",
        );
    }
    let state = Box::pin(metadata_log::read_quorum_state(&shard.runtime, &path)).await?;
    let image = contents.metadata.image().map_err(Error::Cluster)?;
    let claim = DirectoryClaim {
        node: shard.node(),
        directory_node: shard.node(),
        directory_id: identity.directory_id,
        voters: contents.voters.as_deref(),
        quorum_state: state.as_ref(),
        metadata: &image,
    };
    quorum::may_take_directory(&claim).map_err(Error::Cluster)?;
    Ok(Claim { identity, is_new: false })
}

fn refuse<T>(directory: &LogDirectory, what: &str) -> Result<T, Error> {
    Err(Error::Config(format!("{}: {what}", directory.path().display())))
}

fn new_identity(shard: &Shard) -> Identity {
    let cluster_id = match &shard.config.cluster_id {
        Some(id) => id.clone(),
        None => metadata_log::new_id(&shard.runtime).to_string(),
    };
    Identity { cluster_id, directory_id: metadata_log::new_id(&shard.runtime) }
}

/// The content of `meta.properties` for a new directory.
pub(crate) fn meta_properties(shard: &Shard, identity: &Identity) -> String {
    format!(
        "version=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
        identity.cluster_id, shard.config.node_id, identity.directory_id
    )
}

/// Who this node is by `meta.properties`, which must not contradict the settings.
fn identity_of(shard: &Shard, directory: &LogDirectory, text: &str) -> Result<Identity, Error> {
    let property = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    let refuse = |what: &str| {
        let path = directory.path().display();
        Err(Error::Config(format!("{path}/meta.properties: {what}")))
    };
    let (Some(cluster_id), Some(node)) = (property("cluster.id"), property("node.id")) else {
        return refuse("cluster.id or node.id is missing");
    };
    if property("version").as_deref() != Some("1") {
        return refuse("only version 1 is known");
    }
    if node != shard.config.node_id.to_string() {
        return refuse(&format!(
            "it is node.id {node}, and node.id {} is set",
            shard.config.node_id
        ));
    }
    if let Some(set) = shard.config.cluster_id.as_ref().filter(|set| **set != cluster_id) {
        return refuse(&format!("it is of cluster {cluster_id}, and cluster {set} is set"));
    }
    match property("directory.id").as_deref().map(str::parse::<Uuid>) {
        Some(Ok(directory_id)) => Ok(Identity { cluster_id, directory_id }),
        Some(Err(error)) => refuse(&format!("directory.id: {error}")),
        None => refuse("directory.id is missing"),
    }
}
