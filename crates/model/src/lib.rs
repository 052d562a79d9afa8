//! The words everybody uses: ids, offsets, epochs, the record batch layout, error codes, settings.
