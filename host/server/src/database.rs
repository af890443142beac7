//! The embedded database, which jobs and studies keep their records in: how it is opened, and its errors.

use redb::{Database, DatabaseError};
use std::path::Path;

/// Bytes of the file that are kept in memory: unless told the database keeps up to a gigabyte, and a server's memory grows with its
/// file.
const CACHE: usize = 16 << 20;

/// Opens a database, or makes it. Of two processes the second is refused.
pub(crate) fn open(file: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE).create(file)
}

/// All the database's errors become `$error::Database`.
macro_rules! from_database {
    ($error:ident) => {
        crate::database::from_database!($error: redb::DatabaseError, redb::TransactionError, redb::TableError,
            redb::StorageError, redb::CommitError);
    };
    ($error:ident: $($of:ty),*) => {
        $(impl From<$of> for $error {
            fn from(e: $of) -> Self {
                Self::Database(e.into())
            }
        })*
    };
}
pub(crate) use from_database;
