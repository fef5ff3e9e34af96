//! Networks by [tract](https://github.com/sonos/tract).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ndarray::ArrayD;
use parking_lot::Mutex;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, IntoTensor, TValue,
    TVec, Tensor, TractResult, TypedRunnableModel, onnx,
};
use tract_onnx::tract_core::internal::DimLike;
use tract_onnx::tract_hir::infer::Factoid;

use crate::onnx::error::Reason;
use crate::onnx::ops::{MAX_ELEMENTS, Operator, need};
use crate::onnx::value::Value;

type Plan = Arc<TypedRunnableModel>;

/// At most so many plans are kept of a network that needs one for each shape of its inputs.
const MAX_PLANS: usize = 16;

/// A network, ready to run on any number of threads.
pub(super) struct Net {
    plans: Plans,
    /// What its inputs are made of.
    inputs: Vec<DatumType>,
}

enum Plans {
    /// One for inputs of all shapes.
    One(Plan),
    /// One for each: some operators (recurrent cells) are planned for sizes that are known only.
    EachShape { model: Box<InferenceModel>, recent: Mutex<VecDeque<(Vec<Vec<usize>>, Plan)>> },
}

impl Net {
    /// Plans the graph of a model file.
    pub(super) fn load(bytes: &[u8]) -> Result<Net, Reason> {
        let model = caught(|| {
            let mut model = onnx().model_for_read(&mut &*bytes)?;
            for input in 0..model.inputs.len() {
                name_dimensions(&mut model, input)?;
            }
            Ok(model)
        })?;
        let inputs = (0..model.inputs.len()).map(|input| {
            let fact = model.input_fact(input).map_err(said)?;
            fact.datum_type.concretize().ok_or_else(|| format!("the type of input {input} is not known"))
        });
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let plans = if let Ok(plan) = plan(&model, None) {
            Plans::One(plan)
        } else {
            // What is wrong with more than the sizes is told now.
            let smallest = (0..model.inputs.len()).map(|input| smallest(&model, input));
            let smallest: Vec<_> = smallest.collect::<Result<_, _>>()?;
            let recent = Mutex::new(VecDeque::from([(smallest.clone(), plan(&model, Some(&smallest))?)]));
            Plans::EachShape { model: Box::new(model), recent }
        };
        Ok(Net { plans, inputs })
    }

    fn plan(&self, inputs: &[TValue]) -> Result<Plan, Reason> {
        let (model, recent) = match &self.plans {
            Plans::One(plan) => return Ok(Arc::clone(plan)),
            Plans::EachShape { model, recent } => (model, recent),
        };
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape().to_vec()).collect();
        let mut plans = recent.lock();
        if let Some(index) = plans.iter().position(|(of, _)| *of == shapes)
            && let Some(found) = plans.remove(index)
        {
            let plan = Arc::clone(&found.1);
            plans.push_front(found);
            return Ok(plan);
        }
        drop(plans);
        let plan = plan(model, Some(&shapes))?;
        plans = recent.lock();
        plans.push_front((shapes, Arc::clone(&plan)));
        plans.truncate(MAX_PLANS);
        Ok(plan)
    }
}

/// Plans a network, for these shapes of its inputs or for all.
fn plan(model: &InferenceModel, shapes: Option<&[Vec<usize>]>) -> Result<Plan, Reason> {
    caught(|| {
        let mut model = model.clone();
        for (input, shape) in shapes.into_iter().flatten().enumerate() {
            if let Some(kind) = model.input_fact(input)?.datum_type.concretize() {
                model.set_input_fact(input, InferenceFact::dt_shape(kind, shape))?;
            }
        }
        model.into_optimized()?.into_runnable()
    })
}

/// Reading and planning go through all that a file claims; some of what contradicts itself, or is not known yet, is found by panicking.
fn caught<T>(run: impl FnOnce() -> TractResult<T>) -> Result<T, Reason> {
    let done = catch_unwind(AssertUnwindSafe(run));
    done.map_err(|_| "it cannot be planned: its operators do not fit together".to_owned())?.map_err(said)
}

fn said(error: impl std::fmt::Display) -> Reason {
    format!("{error:#}")
}

/// Gives dimensions that are not known, and have no name, one each, so that planning can go on with them.
fn name_dimensions(model: &mut InferenceModel, input: usize) -> TractResult<()> {
    let fact = model.input_fact(input)?.clone();
    let (Some(datum_type), false) = (fact.datum_type.concretize(), fact.shape.is_open()) else {
        return Ok(());
    };
    let dims: Vec<_> = fact
        .shape
        .dims()
        .map(|dim| dim.concretize().unwrap_or_else(|| model.symbols.new_with_prefix("d").into()))
        .collect();
    model.set_input_fact(input, InferenceFact::dt_shape(datum_type, dims))
}

/// The shape of an input with 1 for every size that is not known.
fn smallest(model: &InferenceModel, input: usize) -> Result<Vec<usize>, Reason> {
    let fact = model.input_fact(input).map_err(said)?;
    if fact.shape.is_open() {
        return Err(format!("the number of dimensions of input {input} is not known"));
    }
    Ok(fact
        .shape
        .dims()
        .map(|dim| dim.concretize().and_then(|dim| dim.to_usize().ok()).unwrap_or(1))
        .collect())
}

impl Operator for Net {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let tensors = self.inputs.iter().enumerate();
        let tensors = tensors.map(|(index, kind)| Ok(tensor(need(inputs, index)?, *kind)?.into()));
        let tensors: TVec<TValue> = tensors.collect::<Result<_, Reason>>()?;
        let plan = self.plan(&tensors)?;
        let outputs = caught(|| plan.run(tensors))?;
        outputs.into_iter().map(|output| value(output.into_tensor())).collect()
    }
}

fn tensor(value: &Value, kind: DatumType) -> Result<Tensor, Reason> {
    let tensor: Tensor = match value {
        Value::F32(array) => array.clone().into(),
        Value::F64(array) => array.clone().into(),
        Value::I64(array) => array.clone().into(),
        Value::Bool(array) => array.clone().into(),
        Value::Text(_) | Value::Maps { .. } => return Err(format!("it takes no {}", value.type_name())),
    };
    // Integers of 32 bits are kept in 64.
    Ok(tensor.cast_to_dt(kind).map_err(said)?.into_owned())
}

fn value(tensor: Tensor) -> Result<Value, Reason> {
    if tensor.len() > MAX_ELEMENTS {
        return Err(format!("it made {} elements, more than the limit of {MAX_ELEMENTS}", tensor.len()));
    }
    fn array<T: tract_onnx::prelude::Datum>(tensor: Tensor) -> Result<ArrayD<T>, Reason> {
        tensor.into_plain_array().map_err(said)
    }
    let cast = |tensor: Tensor, to| tensor.cast_to_dt(to).map(std::borrow::Cow::into_owned).map_err(said);
    Ok(match tensor.datum_type() {
        DatumType::F32 => Value::F32(array(tensor)?),
        DatumType::F64 => Value::F64(array(tensor)?),
        DatumType::I64 => Value::I64(array(tensor)?),
        DatumType::Bool => Value::Bool(array(tensor)?),
        DatumType::F16 => Value::F32(array(cast(tensor, DatumType::F32)?)?),
        kind if kind.is_integer() || kind == DatumType::TDim => {
            Value::I64(array(cast(tensor, DatumType::I64)?)?)
        }
        kind => return Err(format!("it made {kind:?}, which cannot be answered")),
    })
}
