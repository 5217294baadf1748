"""The columns of a purchase, by kind."""

import numpy as np
import tensorflow as tf

from models.fraud import model as network
from models.fraud.features import AMOUNTS, CATEGORIES, COUNTS, RISKS

LABEL = network.LABEL
IDS = ("transaction_id", "customer_id", "merchant_id")
PASTS = ("past_amount", "past_age", "past_merchant")
SCALARS = (*IDS, "event_time", LABEL, *CATEGORIES, *AMOUNTS, *COUNTS, *RISKS)
Arrays = dict[str, np.ndarray]
Tensors = dict[str, tf.Tensor]
