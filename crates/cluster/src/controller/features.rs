//! Levels of features: raised where this node supports the new one; that of the metadata is never
//! lowered.
//!
//! A request changes all of its features or none. Lowering `metadata.version` would need records
//! that the lower level knows to be written anew, which Apache Kafka does not do either.

use super::{Controller, Decision, Intent};
use crate::record::MetadataRecord;
use crate::{Error, feature};

/// Which way a level may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Up.
    Up,
    /// Up, or down where nothing would be lost.
    SafeDown,
    /// Up, or down whatever is lost.
    UnsafeDown,
    /// A way that no version of the protocol has.
    Unknown,
}

/// A feature and the level that it shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The feature.
    pub name: String,
    /// The level; 0 disables it.
    pub level: i16,
    /// Which way it may go.
    pub direction: Direction,
}

impl Controller {
    /// Brings features to new levels: all of them, or none.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be had.
    pub fn update_features(
        &mut self,
        updates: &[FeatureUpdate],
        intent: Intent,
    ) -> Result<Decision<()>, Error> {
        let mut records = Vec::new();
        for (index, update) in updates.iter().enumerate() {
            if updates[..index].iter().any(|other| other.name == update.name) {
                return Err(Error::InvalidRequest(format!(
                    "the feature {} is updated twice",
                    update.name.escape_default()
                )));
            }
            let feature = feature::SUPPORTED.iter().find(|(name, ..)| *name == update.name);
            records.extend(self.update_feature(update, feature)?);
        }
        Ok(self.conclude(intent, records, ()))
    }

    fn update_feature(
        &self,
        update: &FeatureUpdate,
        feature: Option<&(&str, i16, i16)>,
    ) -> Result<Option<MetadataRecord>, Error> {
        let FeatureUpdate { name, level, direction } = update;
        let refuse = |why: String| {
            Err(Error::InvalidFeatureLevel(format!(
                "The update failed for all features since the following feature had an error: {why}"
            )))
        };
        let invalid =
            |why: &str| refuse(format!("Invalid update version {level} for feature {name}. {why}"));
        if *direction == Direction::Unknown {
            return invalid("The controller does not support the given upgrade type.");
        }
        let node = self.image.brokers().keys().next().map_or(-1, |id| id.0);
        let Some((_, min, max)) = feature else {
            return invalid(&format!("Local controller {node} does not support this feature."));
        };
        if !(*min..=*max).contains(level) {
            return invalid(&format!("Local controller {node} only supports versions {min}-{max}"));
        }
        let is_metadata = name == feature::METADATA_VERSION;
        let is_quorum = name == feature::KRAFT_VERSION;
        let present =
            if is_quorum { feature::KRAFT_VERSION_LEVEL } else { self.image.feature(name) };
        if *level >= present {
            let feature_level = *level;
            let record = MetadataRecord::FeatureLevel { name: name.clone(), feature_level };
            return Ok((*level > present).then_some(record));
        }
        match direction {
            Direction::Up | Direction::Unknown => invalid(
                "Can't downgrade the version of this feature without setting the upgrade type to \
                 either safe or unsafe downgrade.",
            ),
            Direction::SafeDown if is_metadata => refuse(format!(
                "Unsupported metadata.version downgrade from {present} to {level}. Refusing to \
                 perform the requested downgrade because it might delete metadata information."
            )),
            Direction::UnsafeDown if is_metadata => refuse(format!(
                "Unsupported metadata.version downgrade from {present} to {level}. Unsafe metadata \
                 downgrade is not supported in this version."
            )),
            Direction::SafeDown | Direction::UnsafeDown if !is_quorum => {
                let feature_level = *level;
                Ok(Some(MetadataRecord::FeatureLevel { name: name.clone(), feature_level }))
            }
            Direction::SafeDown | Direction::UnsafeDown => {
                invalid("Can't downgrade the version of this feature.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Offset;

    use super::*;
    use crate::MetadataImage;
    use crate::controller::Defaults;

    /// A controller of a directory at this level of `metadata.version`.
    fn controller(feature_level: i16) -> Controller {
        let mut image = MetadataImage::new();
        let name = feature::METADATA_VERSION.to_owned();
        image
            .apply(Offset(0), &[MetadataRecord::FeatureLevel { name, feature_level }])
            .expect("a level is replayed");
        Controller::new(Defaults { partition_count: 1, replication_factor: 1 }, image)
    }

    fn update(name: &str, level: i16, direction: Direction) -> FeatureUpdate {
        FeatureUpdate { name: name.to_owned(), level, direction }
    }

    #[test]
    fn levels_go_up_and_never_down() {
        let (up, safe) = (Direction::Up, Direction::SafeDown);
        let metadata = feature::METADATA_VERSION;
        let cases: &[(&str, i16, Direction, Result<usize, &str>)] = &[
            (metadata, 30, up, Ok(0)),
            (metadata, 33, up, Ok(1)),
            (metadata, 33, safe, Ok(1)),
            (metadata, 34, up, Err("only supports versions 23-33")),
            (metadata, 22, up, Err("only supports versions 23-33")),
            (metadata, 0, Direction::UnsafeDown, Err("only supports versions")),
            (metadata, 29, up, Err("without setting the upgrade type")),
            (metadata, 30, Direction::Unknown, Err("not support the given upgrade type")),
            (metadata, 29, safe, Err("metadata.version downgrade from 30 to 29. Refusing")),
            (metadata, 29, Direction::UnsafeDown, Err("downgrade is not supported")),
            (feature::KRAFT_VERSION, 1, up, Ok(0)),
            (feature::KRAFT_VERSION, 0, safe, Err("Can't downgrade")),
            (feature::GROUP_VERSION, 1, up, Ok(1)),
            (feature::GROUP_VERSION, 0, safe, Ok(0)),
            (feature::GROUP_VERSION, 2, up, Err("only supports versions 0-1")),
            ("share.version", 1, up, Err("does not support this feature")),
        ];
        for (name, level, direction, expected) in cases {
            let mut controller = controller(30);
            let updates = [update(name, *level, *direction)];
            let checked = controller.update_features(&updates, Intent::Validate);
            assert_eq!(controller.image().metadata_version(), 30, "only checked");
            let done = controller.update_features(&updates, Intent::Apply);
            assert_eq!(checked.as_ref().err(), done.as_ref().err());
            match (done, expected) {
                (Ok(decision), Ok(count)) => assert_eq!(decision.records.len(), *count),
                (Err(error), Err(text)) => {
                    assert!(error.to_string().contains(text), "{name} {level}: {error}");
                }
                (done, _) => panic!("{name} {level} {direction:?}: {done:?}"),
            }
        }
    }

    #[test]
    fn one_that_fails_takes_the_others_with_it() {
        let mut controller = controller(30);
        let raised = update(feature::METADATA_VERSION, 33, Direction::Up);
        let unknown = update("nonsense", 1, Direction::Up);
        let both = [raised.clone(), unknown];
        controller.update_features(&both, Intent::Apply).expect_err("one is unknown");
        let twice = [raised.clone(), raised.clone()];
        controller.update_features(&twice, Intent::Apply).expect_err("one is named twice");
        assert_eq!(controller.image().metadata_version(), 30);
        let decision = controller.update_features(&[raised], Intent::Apply).expect("it goes up");
        assert_eq!(decision.records.len(), 1);
        assert_eq!(controller.image().metadata_version(), 33);
    }
}
