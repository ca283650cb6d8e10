"""People found in photographs and videos, and cut out of them."""

# The model that finds them unless another one is named.
DETECTOR = "ustc-community/dfine-medium-coco"
