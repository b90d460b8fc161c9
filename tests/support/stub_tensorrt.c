/* What TensorRT's Python bindings are linked to; ``answer`` is set by stub_tensorrt.py. */
#include <stdint.h>

typedef uint64_t word;

word (*answer)(const char *function, word first, word second, word third);

#define FUNCTION(name) \
    word name(word first, word second, word third) { return answer(#name, first, second, third); }

FUNCTION(createInferBuilder_INTERNAL)
FUNCTION(createInferRefitter_INTERNAL)
FUNCTION(createInferRuntime_INTERNAL)
FUNCTION(createNvOnnxParserRefitter_INTERNAL)
FUNCTION(createNvOnnxParser_INTERNAL)
FUNCTION(getBuilderPluginRegistry)
FUNCTION(getNvOnnxParserVersion)
FUNCTION(getPluginRegistry)
FUNCTION(initLibNvInferPlugins)
