//! [`Operation`]: an operation of the service.

/// An operation of the service. The variants have the names that the protocol uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    ExecuteStatement,
    BatchExecuteStatement,
    DescribeStatement,
    CancelStatement,
    GetStatementResult,
    GetStatementResultV2,
    ListStatements,
    ListSessions,
    ListDatabases,
    ListSchemas,
    ListTables,
    DescribeTable,
}

impl Operation {
    pub(super) const ALL: [Self; 12] = [
        Self::ExecuteStatement,
        Self::BatchExecuteStatement,
        Self::DescribeStatement,
        Self::CancelStatement,
        Self::GetStatementResult,
        Self::GetStatementResultV2,
        Self::ListStatements,
        Self::ListSessions,
        Self::ListDatabases,
        Self::ListSchemas,
        Self::ListTables,
        Self::DescribeTable,
    ];

    /// Parses the header `X-Amz-Target`. Returns `None` if it names no operation.
    pub(super) fn from_target(target: &str) -> Option<Self> {
        let name = target.strip_prefix("RedshiftData.")?;
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ExecuteStatement => "ExecuteStatement",
            Self::BatchExecuteStatement => "BatchExecuteStatement",
            Self::DescribeStatement => "DescribeStatement",
            Self::CancelStatement => "CancelStatement",
            Self::GetStatementResult => "GetStatementResult",
            Self::GetStatementResultV2 => "GetStatementResultV2",
            Self::ListStatements => "ListStatements",
            Self::ListSessions => "ListSessions",
            Self::ListDatabases => "ListDatabases",
            Self::ListSchemas => "ListSchemas",
            Self::ListTables => "ListTables",
            Self::DescribeTable => "DescribeTable",
        }
    }

    /// Returns `true` if the operation submits SQL.
    pub(super) fn submits(self) -> bool {
        matches!(self, Self::ExecuteStatement | Self::BatchExecuteStatement)
    }

    /// Returns `true` if the operation lists the contents of a database.
    pub(super) fn is_metadata(self) -> bool {
        matches!(self, Self::ListDatabases | Self::ListSchemas | Self::ListTables | Self::DescribeTable)
    }

    /// Returns `true` if the operation needs a database connection before it can respond.
    pub(super) fn connects(self) -> bool {
        self.is_metadata() || self == Self::CancelStatement
    }
}
