//! [`KeyGenerator`] and [`FolderForm`].

const KEY_GENERATOR_PACKAGE: &str = "org.apache.hudi.keygen.";

/// The key generator of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyGenerator {
    /// `NonpartitionedKeyGenerator`.
    Nonpartitioned,
    /// `SimpleKeyGenerator`.
    Simple,
    /// `ComplexKeyGenerator`.
    Complex,
    /// `TimestampBasedKeyGenerator`.
    TimestampBased,
    /// `CustomKeyGenerator`: each partition field has its own [`FolderForm`].
    Custom,
}

/// How the values of a partition field are written in folder names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderForm {
    /// The value as text.
    Text,
    /// A time, formatted by a date pattern.
    Time,
    /// The table does not record the form.
    Unknown,
}

impl FolderForm {
    /// Returns the name and the form of an entry of `hoodie.table.partition.fields`: `day` or, for the custom
    /// generator of Hudi 1.x, `day:SIMPLE` or `created:TIMESTAMP`.
    pub(crate) fn split(field: &str) -> (String, Option<Self>) {
        match field.split_once(':') {
            None => (field.to_owned(), None),
            Some((name, kind)) if kind.eq_ignore_ascii_case("simple") => (name.to_owned(), Some(Self::Text)),
            Some((name, kind)) if kind.eq_ignore_ascii_case("timestamp") => {
                (name.to_owned(), Some(Self::Time))
            }
            Some((name, _)) => (name.to_owned(), Some(Self::Unknown)),
        }
    }

    /// Returns the form that a generator implies for a field if the table does not record one. Hudi 0.x does
    /// not store the forms of the custom generator.
    pub(crate) fn of(generator: Option<KeyGenerator>) -> Self {
        match generator {
            Some(KeyGenerator::TimestampBased) => Self::Time,
            Some(KeyGenerator::Custom) | None => Self::Unknown,
            Some(_) => Self::Text,
        }
    }
}

impl KeyGenerator {
    /// Returns the generator that Spark infers.
    pub fn of(record_key_fields: usize, partition_fields: usize) -> Self {
        match (record_key_fields, partition_fields) {
            (_, 0) => Self::Nonpartitioned,
            (1, 1) => Self::Simple,
            _ => Self::Complex,
        }
    }

    /// Returns the value of `hoodie.table.keygenerator.class`.
    pub fn class(self) -> &'static str {
        match self {
            Self::Nonpartitioned => "org.apache.hudi.keygen.NonpartitionedKeyGenerator",
            Self::Simple => "org.apache.hudi.keygen.SimpleKeyGenerator",
            Self::Complex => "org.apache.hudi.keygen.ComplexKeyGenerator",
            Self::TimestampBased => "org.apache.hudi.keygen.TimestampBasedKeyGenerator",
            Self::Custom => "org.apache.hudi.keygen.CustomKeyGenerator",
        }
    }

    /// Returns `true` if the generator supports these numbers of record key and partition fields.
    pub(crate) fn fits(self, record_key_fields: usize, partition_fields: usize) -> bool {
        match self {
            Self::Nonpartitioned => partition_fields == 0,
            Self::Simple | Self::TimestampBased => record_key_fields == 1 && partition_fields == 1,
            Self::Complex | Self::Custom => true,
        }
    }

    /// Returns the generator of this Java class.
    pub fn from_class(class: &str) -> Option<Self> {
        match class.strip_prefix(KEY_GENERATOR_PACKAGE)? {
            "NonpartitionedKeyGenerator" | "NonpartitionedAvroKeyGenerator" => Some(Self::Nonpartitioned),
            "SimpleKeyGenerator" | "SimpleAvroKeyGenerator" => Some(Self::Simple),
            "ComplexKeyGenerator" | "ComplexAvroKeyGenerator" => Some(Self::Complex),
            "TimestampBasedKeyGenerator" | "TimestampBasedAvroKeyGenerator" => Some(Self::TimestampBased),
            "CustomKeyGenerator" | "CustomAvroKeyGenerator" => Some(Self::Custom),
            _ => None,
        }
    }

    /// Returns the generator for a value of `hoodie.table.keygenerator.type`, which 1.x writes.
    pub fn from_type(kind: &str) -> Option<Self> {
        match kind {
            "NON_PARTITION" | "NON_PARTITION_AVRO" => Some(Self::Nonpartitioned),
            "SIMPLE" | "SIMPLE_AVRO" => Some(Self::Simple),
            "COMPLEX" | "COMPLEX_AVRO" => Some(Self::Complex),
            "TIMESTAMP" | "TIMESTAMP_AVRO" => Some(Self::TimestampBased),
            "CUSTOM" | "CUSTOM_AVRO" => Some(Self::Custom),
            _ => None,
        }
    }
}
