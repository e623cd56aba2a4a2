//! What goes into statements, and what comes out of rows.

use ::postgres::types::{FromSql, IsNull, ToSql, Type};
use bytes::BytesMut;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::Fault;

type Conversion = Box<dyn std::error::Error + Sync + Send>;

/// Something that a statement is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::store) enum Value<'a> {
    Null,
    Int(i64),
    Bool(bool),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(number),
            Self::Bool(is) => ValueRef::Integer(is.into()),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, wanted: &Type, out: &mut BytesMut) -> Result<IsNull, Conversion> {
        match (*self, wanted) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Int(number), &Type::INT8) => number.to_sql(wanted, out),
            (Self::Int(number), &Type::INT4) => i32::try_from(number)?.to_sql(wanted, out),
            (Self::Bool(is), &Type::INT8) => i64::from(is).to_sql(wanted, out),
            (Self::Bool(is), &Type::BOOL) => is.to_sql(wanted, out),
            (Self::Blob(bytes), &Type::BYTEA) => bytes.to_sql(wanted, out),
            // PostgreSQL's texts have no NUL, and a name that has one is nobody's. What was signed is kept as bytes.
            (Self::Text(text), &Type::TEXT) if text.contains('\0') => {
                text.replace('\0', "\u{FFFD}").to_sql(wanted, out)
            }
            (Self::Text(text), &Type::TEXT) => text.to_sql(wanted, out),
            _ => Err(format!("{self:?} where PostgreSQL expects {wanted}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    ::postgres::types::to_sql_checked!();
}

/// What a column of a row holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::store) enum Cell<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl<'a> Cell<'a> {
    pub(super) fn of_sqlite(value: ValueRef<'a>) -> Option<Self> {
        Some(match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Int(number),
            ValueRef::Text(text) => Self::Text(std::str::from_utf8(text).ok()?),
            ValueRef::Blob(bytes) => Self::Blob(bytes),
            ValueRef::Real(_) => return None,
        })
    }

    pub(in crate::store) fn as_str(self) -> Result<&'a str, Fault> {
        self.as_str_or_null()?.ok_or(Fault::NoRows)
    }

    pub(in crate::store) fn as_str_or_null(self) -> Result<Option<&'a str>, Fault> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            _ => Err(Fault::NoText),
        }
    }

    pub(in crate::store) fn as_blob(self) -> Result<&'a [u8], Fault> {
        self.as_blob_or_null()?.ok_or(Fault::NoRows)
    }

    pub(in crate::store) fn as_blob_or_null(self) -> Result<Option<&'a [u8]>, Fault> {
        match self {
            Self::Null => Ok(None),
            Self::Blob(bytes) => Ok(Some(bytes)),
            _ => Err(Fault::NoText),
        }
    }
}

impl<'a> FromSql<'a> for Cell<'a> {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Conversion> {
        Ok(match *of {
            Type::INT8 => Self::Int(i64::from_sql(of, raw)?),
            Type::INT4 => Self::Int(i32::from_sql(of, raw)?.into()),
            Type::BOOL => Self::Int(bool::from_sql(of, raw)?.into()),
            Type::BYTEA => Self::Blob(raw),
            _ => Self::Text(<&str>::from_sql(of, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Conversion> {
        Ok(Self::Null)
    }

    fn accepts(of: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::BOOL, Type::BYTEA, Type::TEXT].contains(of)
    }
}

/// What can be read from a column.
pub(in crate::store) trait FromCell: Sized {
    /// None where it holds something else.
    fn from_cell(cell: Cell<'_>) -> Option<Self>;
}

impl FromCell for i64 {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Int(number) = cell { Some(number) } else { None }
    }
}

impl FromCell for u64 {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        i64::from_cell(cell)?.try_into().ok()
    }
}

impl FromCell for u32 {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        i64::from_cell(cell)?.try_into().ok()
    }
}

impl FromCell for bool {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        i64::from_cell(cell).map(|number| number != 0)
    }
}

impl FromCell for String {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Text(text) = cell { Some(text.to_owned()) } else { None }
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Blob(bytes) = cell { Some(bytes.to_vec()) } else { None }
    }
}

impl FromCell for [u8; 32] {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Blob(bytes) = cell { bytes.try_into().ok() } else { None }
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if cell == Cell::Null { Some(None) } else { T::from_cell(cell).map(Some) }
    }
}

/// What can be given to a statement.
pub(in crate::store) trait Param {
    fn value(&self) -> Result<Value<'_>, Fault>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Param for $number {
            fn value(&self) -> Result<Value<'_>, Fault> {
                i64::try_from(*self).map(Value::Int).map_err(|_| Fault::Number(*self as u64))
            }
        }
    )*};
}
numbers!(u32, u64, usize);

impl Param for i64 {
    fn value(&self) -> Result<Value<'_>, Fault> {
        Ok(Value::Int(*self))
    }
}

impl Param for bool {
    fn value(&self) -> Result<Value<'_>, Fault> {
        Ok(Value::Bool(*self))
    }
}

impl Param for str {
    fn value(&self) -> Result<Value<'_>, Fault> {
        Ok(Value::Text(self))
    }
}

impl Param for String {
    fn value(&self) -> Result<Value<'_>, Fault> {
        Ok(Value::Text(self))
    }
}

impl Param for [u8] {
    fn value(&self) -> Result<Value<'_>, Fault> {
        Ok(Value::Blob(self))
    }
}

impl Param for Vec<u8> {
    fn value(&self) -> Result<Value<'_>, Fault> {
        Ok(Value::Blob(self))
    }
}

impl Param for [u8; 32] {
    fn value(&self) -> Result<Value<'_>, Fault> {
        Ok(Value::Blob(self))
    }
}

impl Param for Value<'_> {
    fn value(&self) -> Result<Value<'_>, Fault> {
        Ok(*self)
    }
}

impl<T: Param> Param for Option<T> {
    fn value(&self) -> Result<Value<'_>, Fault> {
        self.as_ref().map_or(Ok(Value::Null), Param::value)
    }
}

impl<T: Param + ?Sized> Param for &T {
    fn value(&self) -> Result<Value<'_>, Fault> {
        (**self).value()
    }
}

/// All that a statement is given, in order.
pub(in crate::store) trait Params {
    fn values(&self) -> Result<Vec<Value<'_>>, Fault>;
}

impl Params for &[&dyn Param] {
    fn values(&self) -> Result<Vec<Value<'_>>, Fault> {
        self.iter().map(|one| one.value()).collect()
    }
}

impl<T: Param, const N: usize> Params for [T; N] {
    fn values(&self) -> Result<Vec<Value<'_>>, Fault> {
        self.iter().map(Param::value).collect()
    }
}

/// What a statement is given, of whatever types.
macro_rules! params {
    ($($one:expr),* $(,)?) => {
        &[$(&$one as &dyn crate::store::engine::Param),*] as &[&dyn crate::store::engine::Param]
    };
}
pub(in crate::store) use params;
