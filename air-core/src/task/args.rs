//! Arguments: objects whose values a task is given when all of them are there.

use std::sync::Arc;

use crate::object::{Dependant, Object, ObjectError, Outcome, Value};

mod sealed {
    pub trait Sealed {}
}

/// What a task may have as an argument: an [`Object`], which it is given as a [`Value`], or many of them (`Vec<Object<T>>`), given as a
/// `Vec<Value<T>>`. Anything else the closure just captures.
pub trait Arg: sealed::Sealed + Clone + Send + 'static {
    /// What the task is given.
    type Given;

    /// How many objects these are.
    #[doc(hidden)]
    fn count(&self) -> usize;

    /// Has the dependant told about each of them, once.
    #[doc(hidden)]
    fn watch(&self, dependant: &Arc<dyn Dependant>);

    /// Why one of them has no value.
    #[doc(hidden)]
    fn failure(&self) -> Option<ObjectError>;

    /// Their values, once all are there.
    #[doc(hidden)]
    fn given(&self) -> Result<Self::Given, ObjectError>;
}

impl<T> sealed::Sealed for Object<T> {}

impl<T: Send + Sync + 'static> Arg for Object<T> {
    type Given = Value<T>;

    fn count(&self) -> usize {
        1
    }

    fn watch(&self, dependant: &Arc<dyn Dependant>) {
        if let Err(dependant) = self.slot().depend(Arc::clone(dependant)) {
            dependant.arrived(self.failure().is_some());
        }
    }

    fn failure(&self) -> Option<ObjectError> {
        match self.slot().get() {
            Some(Outcome::Failed(error)) => Some(error.clone()),
            _ => None,
        }
    }

    fn given(&self) -> Result<Value<T>, ObjectError> {
        self.value()
    }
}

impl<T> sealed::Sealed for Vec<Object<T>> {}

impl<T: Send + Sync + 'static> Arg for Vec<Object<T>> {
    type Given = Vec<Value<T>>;

    fn count(&self) -> usize {
        self.len()
    }

    fn watch(&self, dependant: &Arc<dyn Dependant>) {
        for object in self {
            object.watch(dependant);
        }
    }

    fn failure(&self) -> Option<ObjectError> {
        self.iter().find_map(Arg::failure)
    }

    fn given(&self) -> Result<Vec<Value<T>>, ObjectError> {
        self.iter().map(Arg::given).collect()
    }
}

/// What can be passed as an [`Arg`]: the argument itself or a reference to it.
pub trait IntoArg {
    /// The argument.
    type Arg: Arg;

    /// Makes it one.
    fn into_arg(self) -> Self::Arg;
}

macro_rules! into_arg {
    ($($from:ty => $to:ty, $make:ident;)*) => {$(
        impl<T: Send + Sync + 'static> IntoArg for $from {
            type Arg = $to;

            fn into_arg(self) -> $to {
                self.$make()
            }
        }
    )*};
}

into_arg! {
    Object<T> => Object<T>, into;
    &Object<T> => Object<T>, clone;
    Vec<Object<T>> => Vec<Object<T>>, into;
    &Vec<Object<T>> => Vec<Object<T>>, clone;
    &[Object<T>] => Vec<Object<T>>, to_vec;
}

/// All arguments of a task: a tuple of them.
pub trait Args: sealed::Sealed + Clone + Send + 'static {
    /// What the task is given.
    type Given;

    #[doc(hidden)]
    fn count(&self) -> usize;

    #[doc(hidden)]
    fn watch(&self, dependant: &Arc<dyn Dependant>);

    #[doc(hidden)]
    fn given(&self) -> Result<Self::Given, ObjectError>;
}

macro_rules! args {
    ($($arg:ident $field:tt),*) => {
        impl<$($arg: Arg),*> sealed::Sealed for ($($arg,)*) {}

        impl<$($arg: Arg),*> Args for ($($arg,)*) {
            type Given = ($($arg::Given,)*);

            fn count(&self) -> usize {
                0 $(+ self.$field.count())*
            }

            fn watch(&self, _dependant: &Arc<dyn Dependant>) {
                $(self.$field.watch(_dependant);)*
            }

            fn given(&self) -> Result<Self::Given, ObjectError> {
                // A failure releases the task before the others are there.
                $(if let Some(error) = self.$field.failure() { return Err(error); })*
                Ok(($(self.$field.given()?,)*))
            }
        }
    };
}

args!();
args!(A 0);
args!(A 0, B 1);
args!(A 0, B 1, C 2);
args!(A 0, B 1, C 2, D 3);
