//! [`Kind`]: which of PostgreSQL's types is which of Arrow's.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use tokio_postgres::types::{Kind as Family, Type};

/// The most digits of a `Decimal128`.
const DIGITS: u8 = arrow::datatypes::DECIMAL128_MAX_PRECISION;

/// A type that values are read and written in, as they are on the wire.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// With its digits in all and after the point: `0 <= scale <= precision <= 38`.
    Numeric {
        precision: u8,
        scale: i8,
    },
    Text,
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    /// An array of one dimension.
    List(Box<Kind>),
}

/// How a column of a query is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    pub(super) kind: Kind,
    /// Whether the server has to cast it to that first.
    pub(super) cast: bool,
}

impl Reading {
    /// A column of one of PostgreSQL's types; `modifier` is what was declared of it, such as its precision.
    ///
    /// # Errors
    /// Why there is no such column in Arrow, and what to cast it to.
    pub(super) fn of(kind: &Type, modifier: i32) -> Result<Self, String> {
        let plain = |kind| Ok(Self { kind, cast: false });
        let text = || Ok(Self { kind: Kind::Text, cast: true });
        match *kind {
            Type::BOOL => plain(Kind::Bool),
            Type::INT2 => plain(Kind::Int2),
            Type::INT4 => plain(Kind::Int4),
            Type::INT8 => plain(Kind::Int8),
            Type::FLOAT4 => plain(Kind::Float4),
            Type::FLOAT8 => plain(Kind::Float8),
            Type::NUMERIC => plain(numeric(modifier)?),
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON => plain(Kind::Text),
            Type::JSONB | Type::UUID => text(),
            Type::BYTEA => plain(Kind::Bytes),
            Type::DATE => plain(Kind::Date),
            Type::TIME => plain(Kind::Time),
            Type::TIMESTAMP => plain(Kind::Timestamp),
            Type::TIMESTAMPTZ => plain(Kind::TimestampTz),
            _ => match kind.kind() {
                Family::Enum(_) => plain(Kind::Text),
                Family::Domain(base) => Self::of(base, modifier),
                Family::Array(item) if !matches!(item.kind(), Family::Array(_)) => {
                    let item = Self::of(item, modifier)?;
                    Ok(Self { kind: Kind::List(Box::new(item.kind)), cast: item.cast })
                }
                _ => {
                    Err("which has no counterpart in Arrow; cast it in the query, such as to text".to_owned())
                }
            },
        }
    }
}

/// A number with as many digits as were declared.
fn numeric(modifier: i32) -> Result<Kind, String> {
    if modifier < 4 {
        return Err("without a number of digits; cast it in the query to numeric(38, 10), float8 or text, \
                    whichever holds its values"
            .to_owned());
    }
    let declared = modifier - 4;
    let precision = (declared >> 16) & 0xffff;
    // Eleven bits with a sign.
    let scale = ((declared & 0x7ff) ^ 0x400) - 0x400;
    // Digits before the point that are all zero and digits after it that are not shown count, too.
    let (precision, scale) = if scale < 0 { (precision - scale, 0) } else { (precision.max(scale), scale) };
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if precision <= DIGITS => Ok(Kind::Numeric { precision, scale }),
        _ => Err(format!(
            "with {precision} digits, and Decimal128 has {DIGITS}; cast it in the query to fewer, to float8 or to text"
        )),
    }
}

impl Kind {
    /// What a column of this type of Arrow's is written as, or may be read as.
    pub(super) fn of(kind: &DataType) -> Option<Self> {
        Some(match kind {
            DataType::Boolean => Self::Bool,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Self::Int2,
            DataType::UInt16 | DataType::Int32 => Self::Int4,
            DataType::UInt32 | DataType::Int64 => Self::Int8,
            DataType::UInt64 => Self::Numeric { precision: 20, scale: 0 },
            DataType::Float16 | DataType::Float32 => Self::Float4,
            DataType::Float64 => Self::Float8,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale) => {
                let precision = precision.checked_add(scale.min(&0).unsigned_abs())?;
                if precision > DIGITS {
                    return None;
                }
                Self::Numeric { precision, scale: (*scale).max(0) }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Bytes,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(_, Some(_)) => Self::TimestampTz,
            DataType::Dictionary(_, values) => Self::of(values)?,
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                match Self::of(item.data_type())? {
                    // An array of arrays is one of two dimensions, which must be as long in every row.
                    Self::List(_) => return None,
                    item => Self::List(Box::new(item)),
                }
            }
            _ => return None,
        })
    }

    /// The type of Arrow's that has its values.
    pub(super) fn arrow(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Numeric { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::Text => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::List(item) => DataType::List(Arc::new(Field::new_list_field(item.arrow(), true))),
        }
    }

    /// Its name in SQL.
    pub(super) fn sql(&self) -> String {
        match self {
            Self::Bool => "boolean".to_owned(),
            Self::Int2 => "smallint".to_owned(),
            Self::Int4 => "integer".to_owned(),
            Self::Int8 => "bigint".to_owned(),
            Self::Float4 => "real".to_owned(),
            Self::Float8 => "double precision".to_owned(),
            Self::Numeric { precision, scale } => format!("numeric({precision}, {scale})"),
            Self::Text => "text".to_owned(),
            Self::Bytes => "bytea".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Time => "time".to_owned(),
            Self::Timestamp => "timestamp".to_owned(),
            Self::TimestampTz => "timestamptz".to_owned(),
            Self::List(item) => format!("{}[]", item.sql()),
        }
    }

    /// The number that the server knows it by, which an array says of its items.
    pub(super) fn oid(&self) -> u32 {
        match self {
            Self::Bool => Type::BOOL,
            Self::Int2 => Type::INT2,
            Self::Int4 => Type::INT4,
            Self::Int8 => Type::INT8,
            Self::Float4 => Type::FLOAT4,
            Self::Float8 => Type::FLOAT8,
            Self::Numeric { .. } => Type::NUMERIC,
            Self::Text => Type::TEXT,
            Self::Bytes => Type::BYTEA,
            Self::Date => Type::DATE,
            Self::Time => Type::TIME,
            Self::Timestamp => Type::TIMESTAMP,
            Self::TimestampTz => Type::TIMESTAMPTZ,
            Self::List(item) => return item.oid(),
        }
        .oid()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn numbers_have_the_digits_that_were_declared() {
        let declared = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        for (precision, scale, kind) in [
            (10, 2, Kind::Numeric { precision: 10, scale: 2 }),
            (38, 38, Kind::Numeric { precision: 38, scale: 38 }),
            (3, 5, Kind::Numeric { precision: 5, scale: 5 }),
            (2, -3, Kind::Numeric { precision: 5, scale: 0 }),
        ] {
            assert_eq!(numeric(declared(precision, scale)), Ok(kind), "numeric({precision}, {scale})");
        }
        for (precision, scale) in [(39, 0), (1000, 2), (38, -1), (1, 1000)] {
            let error = numeric(declared(precision, scale)).unwrap_err();
            assert!(error.contains("digits, and Decimal128 has 38"), "{error}");
        }
        assert!(numeric(-1).unwrap_err().contains("without a number of digits"));
    }

    #[test]
    fn what_is_read_is_written_as_the_same() {
        let plain = [
            Kind::Bool,
            Kind::Int2,
            Kind::Int4,
            Kind::Int8,
            Kind::Float4,
            Kind::Float8,
            Kind::Numeric { precision: 38, scale: 3 },
            Kind::Text,
            Kind::Bytes,
            Kind::Date,
            Kind::Time,
            Kind::Timestamp,
            Kind::TimestampTz,
        ];
        for kind in plain {
            assert_eq!(Kind::of(&kind.arrow()), Some(kind.clone()));
            let list = Kind::List(Box::new(kind));
            assert_eq!(Kind::of(&list.arrow()), Some(list.clone()));
            assert_eq!(Kind::of(&Kind::List(Box::new(list)).arrow()), None, "two dimensions");
        }
        assert_eq!(Kind::of(&DataType::Decimal128(5, -3)), Some(Kind::Numeric { precision: 8, scale: 0 }));
        assert_eq!(Kind::of(&DataType::Decimal128(38, -1)), None);
        assert_eq!(Kind::of(&DataType::Duration(TimeUnit::Second)), None);
    }
}
