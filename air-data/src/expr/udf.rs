//! [`Udf`]: a closure over columns as a function in expressions and in SQL.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::IntoExpr;
use crate::error::{DataError, Result};
use crate::session::{Session, panic_message};

/// A function of users' own in expressions, and by its name in [`Session::sql`] once it is [registered](Session::register_udf).
///
/// It is given whole columns, as many rows at a time as the engine likes, and gives a column of as many rows back. It must give the same for the same:
/// the engine may call it for constants, once for rows that are alike, or before a filter.
///
/// ```
/// # fn main() -> Result<(), air_data::DataError> {
/// use std::sync::Arc;
///
/// use air_data::expr::{DataType, Udf};
/// use air_data::{col, range};
/// use arrow::array::{AsArray, Int64Array};
/// use arrow::datatypes::Int64Type;
///
/// let collatz = Udf::new("collatz", [DataType::Int64], DataType::Int64, |columns| {
///     let numbers = columns[0].as_primitive::<Int64Type>();
///     let next: Int64Array = numbers.unary(|n| if n % 2 == 0 { n / 2 } else { 3 * n + 1 });
///     Ok(Arc::new(next))
/// })?;
/// let numbers = range(4)?.with_column("next", collatz.call([col("id")]));
/// assert_eq!(numbers.select(["next"]).take::<i64>(4)?, [0, 4, 1, 10]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Udf(Arc<ScalarUDF>);

impl Udf {
    /// A function of columns of these types; values of others are cast to them where nothing is lost. In SQL it is called by `name`.
    ///
    /// # Errors
    /// [`DataError::Config`] if the name is empty or there is no column.
    pub fn new<F>(
        name: &str,
        inputs: impl IntoIterator<Item = DataType>,
        output: DataType,
        function: F,
    ) -> Result<Self>
    where
        F: Fn(&[ArrayRef]) -> std::result::Result<ArrayRef, BoxError> + Send + Sync + 'static,
    {
        let bad = |field, reason: &str| Err(DataError::Config { field, reason: reason.to_owned() });
        let inputs: Vec<DataType> = inputs.into_iter().collect();
        if name.is_empty() {
            return bad("name", "a function needs a name");
        }
        if inputs.is_empty() {
            return bad("inputs", "a function needs a column, which says how many rows there are");
        }
        let signature = Signature::exact(inputs, Volatility::Immutable);
        let closure = Closure { name: name.to_owned(), signature, output, function: Arc::new(function) };
        Ok(Self(Arc::new(ScalarUDF::new_from_impl(closure))))
    }

    /// The function of these columns or expressions.
    pub fn call<E: IntoExpr>(&self, of: impl IntoIterator<Item = E>) -> Expr {
        self.0.call(of.into_iter().map(IntoExpr::into_expr).collect())
    }
}

impl Session {
    /// Makes a function known to [`Session::sql`] by its name; one of that name is replaced.
    pub fn register_udf(&self, function: &Udf) {
        self.context().register_udf(function.0.as_ref().clone());
    }
}

type Function = dyn Fn(&[ArrayRef]) -> std::result::Result<ArrayRef, BoxError> + Send + Sync;

struct Closure {
    name: String,
    signature: Signature,
    output: DataType,
    function: Arc<Function>,
}

impl Closure {
    fn run(&self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let failed = |source: BoxError| DataError::Function { name: self.name.clone(), source };
        let column = match catch_unwind(AssertUnwindSafe(|| (self.function)(columns))) {
            Ok(column) => column.map_err(failed)?,
            Err(panic) => return Err(failed(format!("panicked: {}", panic_message(&*panic)).into())),
        };
        if column.len() != rows {
            return Err(failed(format!("gave {} rows for {rows}", column.len()).into()));
        }
        if *column.data_type() != self.output {
            return Err(failed(format!("gave {}, not {}", column.data_type(), self.output).into()));
        }
        Ok(column)
    }
}

impl ScalarUDFImpl for Closure {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(self.output.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let columns = args.args.into_iter().map(|arg| arg.into_array(args.number_rows));
        let columns: Vec<ArrayRef> = columns.collect::<EngineResult<_>>()?;
        let column = self.run(&columns, args.number_rows).map_err(DataFusionError::from)?;
        Ok(ColumnarValue::Array(column))
    }
}

impl fmt::Debug for Closure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Udf").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Two functions are one where their closure is.
impl PartialEq for Closure {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.function, &other.function)
    }
}

impl Eq for Closure {}

impl Hash for Closure {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
