// A decoded high dynamic range picture, 8 bit (NV12) or 16 bit with the value in the high bits
// (P016), to 8-bit NV12 in BT.709, by the table of tonemap.py. Chroma lies as in H.264 and HEVC: at
// the even columns, between two rows.

typedef unsigned char u8;
typedef unsigned short u16;

#define NODES 64

static __device__ __forceinline__ float3 node(const float* table, int r, int g, int b) {
    const float* at = table + 3 * ((b * NODES + g) * NODES + r);
    return make_float3(at[0], at[1], at[2]);
}

// Tetrahedral interpolation, as in FFmpeg's haldclut: from the lower corner of the cell along its
// edges to the upper one, first along the axis with the largest remainder, last along the smallest.
static __device__ float3 look_up(const float* table, float red, float green, float blue) {
    const float top = NODES - 1;
    const float r = fminf(fmaxf(red, 0.f), 1.f) * top;
    const float g = fminf(fmaxf(green, 0.f), 1.f) * top;
    const float b = fminf(fmaxf(blue, 0.f), 1.f) * top;
    const int r0 = (int)r, g0 = (int)g, b0 = (int)b;
    const int r1 = min(r0 + 1, NODES - 1), g1 = min(g0 + 1, NODES - 1), b1 = min(b0 + 1, NODES - 1);
    const float dr = r - r0, dg = g - g0, db = b - b0;
    const int most = dr >= dg ? (dr >= db ? 0 : 2) : (dg >= db ? 1 : 2);
    const int least = dr < dg ? (dr < db ? 0 : 2) : (dg <= db ? 1 : 2);
    const float far = fmaxf(dr, fmaxf(dg, db)), near = fminf(dr, fminf(dg, db));
    const float middle = dr + dg + db - far - near;
    const float3 low = node(table, r0, g0, b0), high = node(table, r1, g1, b1);
    const float3 one = node(table, most == 0 ? r1 : r0, most == 1 ? g1 : g0, most == 2 ? b1 : b0);
    const float3 two =
        node(table, least == 0 ? r0 : r1, least == 1 ? g0 : g1, least == 2 ? b0 : b1);
    const float w0 = 1.f - far, w1 = far - middle, w2 = middle - near;
    return make_float3(
        low.x * w0 + one.x * w1 + two.x * w2 + high.x * near,
        low.y * w0 + one.y * w1 + two.y * w2 + high.y * near,
        low.z * w0 + one.z * w1 + two.z * w2 + high.z * near);
}

// Cb and Cr at a luma sample.
template <typename T>
static __device__ float2 chroma_at(const T* chroma, int x, int y, int columns, int rows) {
    const int left = x >> 1, right = min(left + (x & 1), columns - 1);
    const int near = y >> 1, far = min(max(near + (y & 1 ? 1 : -1), 0), rows - 1);
    const T* a = chroma + 2 * ((size_t)near * columns + left);
    const T* b = chroma + 2 * ((size_t)near * columns + right);
    const T* c = chroma + 2 * ((size_t)far * columns + left);
    const T* d = chroma + 2 * ((size_t)far * columns + right);
    return make_float2(
        .375f * (a[0] + b[0]) + .125f * (c[0] + d[0]),
        .375f * (a[1] + b[1]) + .125f * (c[1] + d[1]));
}

static __device__ __forceinline__ u8 rounded(float code) { return (u8)(code + .5f); }

// source: planes behind one another without row padding; out: the same. Codes are signals by
// y = (code - y_black) * y_scale and c = (code - c_zero) * c_scale. One thread maps two rows of two
// samples, and for their chroma the column to the left too (weights 1, 2, 1).
template <typename T>
static __device__ void tonemap(
    const T* source, u8* out, const float* table, int width, int height,
    float y_black, float y_scale, float c_zero, float c_scale) {
    const int columns = width / 2, rows = height / 2;
    const int cx = blockIdx.x * blockDim.x + threadIdx.x;
    const int cy = blockIdx.y * blockDim.y + threadIdx.y;
    if (cx >= columns || cy >= rows) return;
    const size_t luma = (size_t)width * height;
    float blue_sum = 0.f, red_sum = 0.f;
    for (int dy = 0; dy < 2; ++dy) {
        for (int dx = -1; dx < 2; ++dx) {
            const int x = max(2 * cx + dx, 0), y = 2 * cy + dy;
            const float2 c = chroma_at(source + luma, x, y, columns, rows);
            const float cb = (c.x - c_zero) * c_scale;
            const float cr = (c.y - c_zero) * c_scale;
            const float l = (source[(size_t)y * width + x] - y_black) * y_scale;
            // BT.2020, non-constant luminance.
            const float3 rgb = look_up(
                table, l + 1.4746f * cr, l - .164553f * cb - .571353f * cr, l + 1.8814f * cb);
            const float shown = .2126f * rgb.x + .7152f * rgb.y + .0722f * rgb.z;
            const float weight = dx ? .125f : .25f;
            blue_sum += weight * (rgb.z - shown) / 1.8556f;
            red_sum += weight * (rgb.x - shown) / 1.5748f;
            if (dx >= 0) out[(size_t)y * width + x] = rounded(16.f + 219.f * shown);
        }
    }
    const size_t at = luma + 2 * ((size_t)cy * columns + cx);
    out[at] = rounded(128.f + 224.f * blue_sum);
    out[at + 1] = rounded(128.f + 224.f * red_sum);
}

extern "C" __global__ void tonemap_u8(
    const u8* source, u8* out, const float* table, int width, int height,
    float y_black, float y_scale, float c_zero, float c_scale) {
    tonemap(source, out, table, width, height, y_black, y_scale, c_zero, c_scale);
}

extern "C" __global__ void tonemap_u16(
    const u16* source, u8* out, const float* table, int width, int height,
    float y_black, float y_scale, float c_zero, float c_scale) {
    tonemap(source, out, table, width, height, y_black, y_scale, c_zero, c_scale);
}
