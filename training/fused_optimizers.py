"""Keras's optimisers, whose update of a variable is one TensorFlow kernel instead of a dozen.

The formulas are Keras's own (keras/src/optimizers); with small batches on processors, the update is a third of a step.
"""

from typing import Any

import keras
import tensorflow as tf


def _handle(variable: Any) -> tf.Tensor:
    """Of TensorFlow's variable, or of Keras's around one."""
    return (variable if isinstance(variable, tf.Variable) else variable.value).handle


class SGD(keras.optimizers.SGD):
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=_handle(variable),
            accum=_handle(self.momentums[self._get_variable_index(variable)]),
            lr=tf.cast(learning_rate, tf.float32),
            grad=gradient,
            momentum=self.momentum,
            use_nesterov=bool(self.nesterov),
        )


class RMSprop(keras.optimizers.RMSprop):
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        at = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyRMSProp(
            var=_handle(variable),
            ms=_handle(self._velocities[at]),
            mom=_handle(self._momentums[at]),
            lr=tf.cast(learning_rate, tf.float32),
            rho=self.rho,
            momentum=self.momentum,
            epsilon=self.epsilon,
            grad=gradient,
        )


class Adam(keras.optimizers.Adam):
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        at = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[at]),
            v=_handle(self._velocities[at]),
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
