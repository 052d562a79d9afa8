//! Consumer groups on the shards that own `__consumer_offsets`.

use std::rc::Rc;

use model::TopicPartition;

use crate::shard::Shard;

#[derive(Default)]
pub(crate) struct Groups {}

impl Groups {
    pub(crate) fn partition_removed(&self, _id: TopicPartition) {}
}

impl Shard {
    pub(crate) async fn load_groups(self: &Rc<Self>) -> Result<(), String> {
        Ok(())
    }
}
