//! OffsetFetch, versions 1 to 10: one group, or from version 8 on several.

use coordinator::offset_fetch;
use model::TopicId;
use wire::offset_fetch_request::OffsetFetchRequest;

use super::{Answer, Request};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: OffsetFetchRequest<'_> = request.decode()?;
    let version = request.head.version;
    let queries = {
        let image = request.shard.image.borrow();
        let resolve = |name: &str, id: TopicId| {
            let topic =
                if id == TopicId::ZERO { image.topic_by_name(name) } else { image.topic(id) };
            topic.map(|topic| (topic.name.clone(), topic.id))
        };
        offset_fetch::queries(&body, version, &resolve)
    };
    let mut groups = Vec::with_capacity(queries.len());
    for query in &queries {
        groups.push(request.shard.ask_offsets(query).await);
    }
    request.respond(&offset_fetch::response(&groups, version))
}
