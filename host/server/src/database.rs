//! The errors of the embedded database, which jobs and studies keep their records in.

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
