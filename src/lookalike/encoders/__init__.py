"""Encoders: pictures -> vectors. One file a kind; they do not import one another's siblings outside this package.

    catalog          what can be had: name, source, licence, dim, what for; listing imports nothing heavy
    efficientnet_lite  EfficientNet-Lite as an ONNX graph, built without torch from the published checkpoint
    histogram        a colour histogram: weightless, the floor of every benchmark
    colours          which colours there are, to go beside another encoder's vector
    focused          an encoder that sees the middle of a picture, or its colours beside
    head             an encoder after what was learned on it
    contract         what every runtime owes: input and output are checked, pictures go in one by one
    onnx             runs an ONNX model; the only module that imports onnxruntime
    litert           runs a .tflite model; the only module that imports ai_edge_litert
    download         fetches one known file: resumed, checked by sha256
    weights          finds weights, checks their sha256, caches what was made of them
    torchfile        reads a .pth checkpoint and executes nothing

Make one through ``lookalike.registry.encoder(name)``.
"""
