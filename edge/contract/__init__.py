"""What training, conversion and the device must agree on: labels, crop, preprocessing, scores, manifest, bundle.

Only numpy, OpenCV and msgspec are used here. There is one implementation of each rule; nobody repeats it elsewhere.
"""
