// Pixel kernels. The sampling rules are those of imaging/geometry.py; the parameter structs are laid
// out again in imaging/cuda_structs.py. Every coordinate that leaves a picture is clamped to its
// border.

typedef unsigned char u8;

struct Picture {
    const u8* y;
    const u8* uv;
    int y_pitch;   // bytes from row to row
    int uv_pitch;
    int width;     // luma samples
    int height;
};

static __device__ __forceinline__ int clamp_to(int value, int low, int high) {
    return min(max(value, low), high);
}

static __device__ __forceinline__ u8 to_u8(float value) {
    return (u8)clamp_to(__float2int_rn(value), 0, 255);
}

static __device__ __forceinline__ float luma_at(const Picture& p, int x, int y) {
    x = clamp_to(x, 0, p.width - 1);
    y = clamp_to(y, 0, p.height - 1);
    return p.y[(size_t)y * p.y_pitch + x];
}

static __device__ __forceinline__ float2 chroma_at(const Picture& p, int x, int y) {
    x = clamp_to(x, 0, p.width / 2 - 1);
    y = clamp_to(y, 0, p.height / 2 - 1);
    const uchar2 c = *(const uchar2*)(p.uv + (size_t)y * p.uv_pitch + 2 * x);
    return make_float2(c.x, c.y);
}

// m: 3 x 4, from Y, Cb, Cr, 1.
static __device__ __forceinline__ void write_rgb(u8* out, const float* m, float y, float2 c) {
#pragma unroll
    for (int k = 0; k < 3; ++k)
        out[k] = to_u8(m[4 * k] * y + m[4 * k + 1] * c.x + m[4 * k + 2] * c.y + m[4 * k + 3]);
}

static __device__ __forceinline__ float2 mix(float2 a, float2 b, float share_of_a) {
    const float share_of_b = 1.f - share_of_a;
    return make_float2(share_of_a * a.x + share_of_b * b.x, share_of_a * a.y + share_of_b * b.y);
}

// How much of cell [k, k + 1) lies in [low, high).
static __device__ __forceinline__ float overlap(int k, float low, float high) {
    return fmaxf(0.f, fminf(high, k + 1.f) - fmaxf(low, (float)k));
}

// One axis of a resize by `step` source samples per output sample.
struct Axis {
    int first;
    int last;
    float low;
    float high;
    float scale;
    bool shrinks;

    __device__ __forceinline__ Axis(int output, float step, int size) {
        shrinks = step > 1.f;
        if (shrinks) {
            low = output * step;
            high = fminf(low + step, (float)size);
            scale = 1.f / (high - low);
            first = (int)floorf(low);
            last = min((int)ceilf(high) - 1, size - 1);
        } else {
            low = (output + 0.5f) * step - 0.5f;
            first = (int)floorf(low);
            last = first + 1;
            high = low - first;
        }
    }

    __device__ __forceinline__ float weight(int k) const {
        if (shrinks) return overlap(k, low, high) * scale;
        return k == first ? 1.f - high : high;
    }
};

struct LetterboxArgs {
    Picture source;
    u8* out;
    int out_pitch;
    int out_width;
    int out_height;
    int x, y, width, height;  // the content, even
    float rgb[12];
};

// Pictures of one launch, one for each blockIdx.z.
const int BATCH = 16;

struct LetterboxBatch {
    LetterboxArgs items[BATCH];
};

static __device__ float resized_luma(const LetterboxArgs& a, int x, int y) {
    const Axis h(x, (float)a.source.width / a.width, a.source.width);
    const Axis v(y, (float)a.source.height / a.height, a.source.height);
    float sum = 0.f;
    for (int j = v.first; j <= v.last; ++j) {
        float row = 0.f;
        for (int i = h.first; i <= h.last; ++i) row += h.weight(i) * luma_at(a.source, i, j);
        sum += v.weight(j) * row;
    }
    return rintf(sum);
}

static __device__ float2 resized_chroma(const LetterboxArgs& a, int x, int y) {
    x = clamp_to(x, 0, a.width / 2 - 1);
    y = clamp_to(y, 0, a.height / 2 - 1);
    const Axis h(x, (float)a.source.width / a.width, a.source.width / 2);
    const Axis v(y, (float)a.source.height / a.height, a.source.height / 2);
    float2 sum = make_float2(0.f, 0.f);
    for (int j = v.first; j <= v.last; ++j) {
        for (int i = h.first; i <= h.last; ++i) {
            const float w = v.weight(j) * h.weight(i);
            const float2 c = chroma_at(a.source, i, j);
            sum.x += w * c.x;
            sum.y += w * c.y;
        }
    }
    return make_float2(rintf(sum.x), rintf(sum.y));
}

// Samples of one axis that one output sample is made of, with their weights, read once. TAPS is how
// many there are at most; those that are missing have no weight.
template <int TAPS>
struct Taps {
    int at[TAPS];
    float weights[TAPS];

    __device__ __forceinline__ Taps(int output, float step, int size) {
        const Axis axis(output, step, size);
#pragma unroll
        for (int k = 0; k < TAPS; ++k) {
            at[k] = clamp_to(axis.first + k, 0, size - 1);
            weights[k] = axis.first + k <= axis.last ? axis.weight(axis.first + k) : 0.f;
        }
    }
};

// How many samples of an axis an output sample is made of at most.
static __device__ __forceinline__ int taps_of(float step) {
    if (step <= 1.f) return 2;
    const int whole = (int)ceilf(step);
    return whole == step ? whole : whole + 1;
}

// The same sums as `resized_luma` and `resized_chroma`, for few samples.
template <int TAPS>
static __device__ __forceinline__ float luma_sum(
    const Picture& p, const Taps<TAPS>& h, const Taps<TAPS>& v) {
    float sum = 0.f;
#pragma unroll
    for (int j = 0; j < TAPS; ++j) {
        const u8* line = p.y + (size_t)v.at[j] * p.y_pitch;
        float row = 0.f;
#pragma unroll
        for (int i = 0; i < TAPS; ++i) row += h.weights[i] * line[h.at[i]];
        sum += v.weights[j] * row;
    }
    return rintf(sum);
}

template <int TAPS>
static __device__ __forceinline__ float2 chroma_sum(
    const Picture& p, const Taps<TAPS>& h, const Taps<TAPS>& v) {
    float2 sum = make_float2(0.f, 0.f);
#pragma unroll
    for (int j = 0; j < TAPS; ++j) {
        const u8* line = p.uv + (size_t)v.at[j] * p.uv_pitch;
#pragma unroll
        for (int i = 0; i < TAPS; ++i) {
            const uchar2 c = *(const uchar2*)(line + 2 * h.at[i]);
            const float w = v.weights[j] * h.weights[i];
            sum.x += w * c.x;
            sum.y += w * c.y;
        }
    }
    return make_float2(rintf(sum.x), rintf(sum.y));
}

// Threads of one block, each of which makes 2 x 2 output pixels of nine chroma samples.
const int BLOCK_X = 32, BLOCK_Y = 8;
typedef float2 Cells[BLOCK_Y + 2][BLOCK_X + 2];

// The chroma samples that the block's threads share. TAPS is 0 for as many taps as there are.
template <int TAPS>
static __device__ __forceinline__ void fill_cells(const LetterboxArgs& a, Cells& cells) {
    const float across = (float)a.source.width / a.width, down = (float)a.source.height / a.height;
    const int first_x = (int)blockIdx.x * BLOCK_X - 1 - a.x / 2;
    const int first_y = (int)blockIdx.y * BLOCK_Y - 1 - a.y / 2;
    for (int n = threadIdx.y * BLOCK_X + threadIdx.x; n < (BLOCK_Y + 2) * (BLOCK_X + 2);
         n += BLOCK_X * BLOCK_Y) {
        const int i = n % (BLOCK_X + 2), j = n / (BLOCK_X + 2);
        if constexpr (TAPS == 0) {
            cells[j][i] = resized_chroma(a, first_x + i, first_y + j);
        } else {
            const int x = clamp_to(first_x + i, 0, a.width / 2 - 1);
            const int y = clamp_to(first_y + j, 0, a.height / 2 - 1);
            cells[j][i] = chroma_sum<TAPS>(a.source, Taps<TAPS>(x, across, a.source.width / 2),
                                           Taps<TAPS>(y, down, a.source.height / 2));
        }
    }
}

// Luma of the thread's four pixels, from (x, y) of the content on.
template <int TAPS>
static __device__ __forceinline__ void four_lumas(
    float (&found)[2][2], const LetterboxArgs& a, int x, int y) {
    if constexpr (TAPS == 0) {
        for (int n = 0; n < 4; ++n) found[n / 2][n % 2] = resized_luma(a, x + n % 2, y + n / 2);
    } else {
        const float across = (float)a.source.width / a.width;
        const float down = (float)a.source.height / a.height;
        const Taps<TAPS> left(x, across, a.source.width), right(x + 1, across, a.source.width);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const Taps<TAPS> v(y + j, down, a.source.height);
            found[j][0] = luma_sum<TAPS>(a.source, left, v);
            found[j][1] = luma_sum<TAPS>(a.source, right, v);
        }
    }
}

template <int TAPS>
static __device__ void letterbox_block(const LetterboxArgs& a, Cells& cells) {
    fill_cells<TAPS>(a, cells);
    __syncthreads();
    const int tx = threadIdx.x, ty = threadIdx.y;
    const int x0 = 2 * (blockIdx.x * BLOCK_X + tx), y0 = 2 * (blockIdx.y * BLOCK_Y + ty);
    if (x0 >= a.out_width || y0 >= a.out_height) return;
    const bool inside = x0 >= a.x && x0 < a.x + a.width && y0 >= a.y && y0 < a.y + a.height;
    if (!inside) {
        for (int j = 0; j < 2; ++j)
            for (int i = 0; i < 6; ++i) a.out[(size_t)(y0 + j) * a.out_pitch + 3 * x0 + i] = 0;
        return;
    }
    float lumas[2][2];
    four_lumas<TAPS>(lumas, a, x0 - a.x, y0 - a.y);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            // An output sample lies a quarter of a half-size sample beside the nearer one.
            const float first_x = i ? 0.75f : 0.25f, first_y = j ? 0.75f : 0.25f;
            const float2* top = &cells[ty + j][tx + i];
            const float2* bottom = &cells[ty + j + 1][tx + i];
            float2 c = mix(mix(top[0], top[1], first_x), mix(bottom[0], bottom[1], first_x), first_y);
            c.x = rintf(c.x);
            c.y = rintf(c.y);
            write_rgb(a.out + (size_t)(y0 + j) * a.out_pitch + 3 * (x0 + i), a.rgb, lumas[j][i], c);
        }
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 4)
    letterbox(const __grid_constant__ LetterboxBatch batch) {
    __shared__ Cells cells;
    const LetterboxArgs& a = batch.items[blockIdx.z];
    const int taps = max(taps_of((float)a.source.width / a.width),
                         taps_of((float)a.source.height / a.height));
    if (taps <= 2)
        letterbox_block<2>(a, cells);
    else if (taps == 3)  // 1920 x 1080 into 640 x 640
        letterbox_block<3>(a, cells);
    else if (taps == 4)
        letterbox_block<4>(a, cells);
    else
        letterbox_block<0>(a, cells);
}

// Means of luma: of a thumbnail's few large cells, or of a preview's many small ones.
struct MeansArgs {
    Picture source;
    u8* out;  // rows without padding
    int width;
    int height;
};

struct MeansBatch {
    MeansArgs items[BATCH];
};

// One block per cell, 128 threads: the mean luma of the part of the picture it stands for.
extern "C" __global__ void thumbnail(const __grid_constant__ MeansBatch batch) {
    const MeansArgs& a = batch.items[blockIdx.z];
    __shared__ float sums[4];
    const Axis h(blockIdx.x, (float)a.source.width / a.width, a.source.width);
    const Axis v(blockIdx.y, (float)a.source.height / a.height, a.source.height);
    float sum = 0.f;
    for (int i = h.first + threadIdx.x % 32; i <= h.last; i += 32) {
        float column = 0.f;
#pragma unroll 4  // loads that do not wait for one another
        for (int j = v.first + threadIdx.x / 32; j <= v.last; j += 4)
            column += v.weight(j) * luma_at(a.source, i, j);
        sum += h.weight(i) * column;
    }
    for (int offset = 16; offset; offset /= 2) sum += __shfl_down_sync(~0u, sum, offset);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0)
        a.out[blockIdx.y * a.width + blockIdx.x] = to_u8(sums[0] + sums[1] + sums[2] + sums[3]);
}

// One thread per sample: the mean luma of the few source samples it stands for.
extern "C" __global__ void preview(const __grid_constant__ MeansBatch batch) {
    const MeansArgs& a = batch.items[blockIdx.z];
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= a.width || y >= a.height) return;
    const Axis h(x, (float)a.source.width / a.width, a.source.width);
    const Axis v(y, (float)a.source.height / a.height, a.source.height);
    float sum = 0.f;
    for (int j = v.first; j <= v.last; ++j) {
        float row = 0.f;
        for (int i = h.first; i <= h.last; ++i) row += h.weight(i) * luma_at(a.source, i, j);
        sum += v.weight(j) * row;
    }
    a.out[y * a.width + x] = to_u8(sum);
}

// Sampling matrix of the finer grid whose block means are the output samples.
struct Warp {
    float m[6];
    int samples;  // per axis and output sample
};

struct ChipArgs {
    Picture source;
    u8* out;
    int out_pitch;
    int size;
    Warp luma;
    Warp chroma;
    float rgb[12];
};

struct Bilinear {
    int x, y;
    float fx, fy;

    __device__ __forceinline__ Bilinear(const Warp& warp, int i, int j) {
        const float px = warp.m[0] * i + warp.m[1] * j + warp.m[2];
        const float py = warp.m[3] * i + warp.m[4] * j + warp.m[5];
        x = (int)floorf(px);
        y = (int)floorf(py);
        fx = px - x;
        fy = py - y;
    }
};

static __device__ float chip_luma(const ChipArgs& a, int x, int y) {
    const int n = a.luma.samples;
    float sum = 0.f;
    for (int j = 0; j < n; ++j) {
        for (int i = 0; i < n; ++i) {
            const Bilinear b(a.luma, x * n + i, y * n + j);
            const float top = luma_at(a.source, b.x, b.y) * (1.f - b.fx) +
                              luma_at(a.source, b.x + 1, b.y) * b.fx;
            const float bottom = luma_at(a.source, b.x, b.y + 1) * (1.f - b.fx) +
                                 luma_at(a.source, b.x + 1, b.y + 1) * b.fx;
            sum += top * (1.f - b.fy) + bottom * b.fy;
        }
    }
    return rintf(sum / (n * n));
}

static __device__ float2 chip_chroma(const ChipArgs& a, int x, int y) {
    const int n = a.chroma.samples;
    float2 sum = make_float2(0.f, 0.f);
    for (int j = 0; j < n; ++j) {
        for (int i = 0; i < n; ++i) {
            const Bilinear b(a.chroma, x * n + i, y * n + j);
            const float2 top = mix(chroma_at(a.source, b.x, b.y),
                                   chroma_at(a.source, b.x + 1, b.y), 1.f - b.fx);
            const float2 bottom = mix(chroma_at(a.source, b.x, b.y + 1),
                                      chroma_at(a.source, b.x + 1, b.y + 1), 1.f - b.fx);
            const float2 c = mix(top, bottom, 1.f - b.fy);
            sum.x += c.x;
            sum.y += c.y;
        }
    }
    return make_float2(rintf(sum.x / (n * n)), rintf(sum.y / (n * n)));
}

extern "C" __global__ void face_chip(const ChipArgs a) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= a.size || y >= a.size) return;
    write_rgb(a.out + (size_t)y * a.out_pitch + 3 * x, a.rgb, chip_luma(a, x, y),
              chip_chroma(a, x, y));
}

// One axis of one plane of one tile. The source is shifted by bilinear interpolation to a grid that
// begins at source index `origin + fraction`, and the grid is resized by `step` grid samples per
// tile sample. Both are linear, so a tile sample is a weighted sum of a few source samples.
struct TileAxis {
    int origin;
    float fraction;
    float step;
    int grid;  // samples of the grid
};

struct Tile {
    TileAxis luma_x, luma_y, chroma_x, chroma_y;
    int left, top, right, bottom;  // the part that the source covers, tile pixels
    int shrinks;
};

struct ComposeArgs {
    Picture source;
    u8* y;   // the canvas, without row padding
    u8* uv;
    int width;
    int height;
    int black;
    Tile tiles[2];
};

struct ComposeBatch {
    ComposeArgs items[BATCH];
};

static __device__ __forceinline__ void add(float& sum, float weight, float value) {
    sum += weight * value;
}

static __device__ __forceinline__ void add(float2& sum, float weight, float2 value) {
    sum.x += weight * value.x;
    sum.y += weight * value.y;
}

// A plane of a picture and how it is enlarged: TAPS is 4 for bicubic and 2 for bilinear.
struct Luma {
    typedef float Value;
    static const int TAPS = 4, BYTES = 1;
    const u8* data;
    int pitch, width, height;

    __device__ __forceinline__ Luma(const Picture& p)
        : data(p.y), pitch(p.y_pitch), width(p.width), height(p.height) {}

    static __device__ __forceinline__ Value at(const u8* row, int x) { return row[x]; }

    static __device__ __forceinline__ void write(u8* out, Value v) { out[0] = to_u8(v); }
};

struct Chroma {
    typedef float2 Value;
    static const int TAPS = 2, BYTES = 2;
    const u8* data;
    int pitch, width, height;

    __device__ __forceinline__ Chroma(const Picture& p)
        : data(p.uv), pitch(p.uv_pitch), width(p.width / 2), height(p.height / 2) {}

    static __device__ __forceinline__ Value at(const u8* row, int x) {
        const uchar2 c = ((const uchar2*)row)[x];
        return make_float2(c.x, c.y);
    }

    static __device__ __forceinline__ void write(u8* out, Value v) {
        out[0] = to_u8(v.x);
        out[1] = to_u8(v.y);
    }
};

template <class Plane>
static __device__ __forceinline__ const u8* row_of(const Plane& plane, int y) {
    return plane.data + (size_t)clamp_to(y, 0, plane.height - 1) * plane.pitch;
}

static __device__ __forceinline__ void coefficients(float (&c)[4], float f) {
    const float a = -0.75f, g = 1.f - f;
    c[0] = ((a * (f + 1.f) - 5.f * a) * (f + 1.f) + 8.f * a) * (f + 1.f) - 4.f * a;
    c[1] = ((a + 2.f) * f - (a + 3.f)) * f * f + 1.f;
    c[2] = ((a + 2.f) * g - (a + 3.f)) * g * g + 1.f;
    c[3] = 1.f - c[0] - c[1] - c[2];
}

static __device__ __forceinline__ void coefficients(float (&c)[2], float f) {
    c[0] = 1.f - f;
    c[1] = f;
}

// Source samples and weights of an enlarged axis.
template <int TAPS>
struct Window {
    int first;
    float weights[TAPS + 1];

    __device__ __forceinline__ Window(const TileAxis& axis, int output) {
        const float position = (output + 0.5f) * axis.step - 0.5f;
        const int base = (int)floorf(position);
        float taps[TAPS];
        coefficients(taps, position - base);
        first = clamp_to(base + 1 - TAPS / 2, 0, axis.grid - 1);
#pragma unroll
        for (int k = 0; k <= TAPS; ++k) weights[k] = 0.f;
#pragma unroll
        for (int t = 0; t < TAPS; ++t) {
            // At the grid's border several taps fall onto one grid sample.
            const int at = clamp_to(base + 1 - TAPS / 2 + t, 0, axis.grid - 1) - first;
#pragma unroll
            for (int k = 0; k < TAPS; ++k) {
                if (at == k) {
                    weights[k] += taps[t] * (1.f - axis.fraction);
                    weights[k + 1] += taps[t] * axis.fraction;
                }
            }
        }
        first += axis.origin;
    }
};

// Source samples and weights of a shrunk axis: means of grid cells.
struct Span {
    int origin, first, last;
    float low, high, fraction, scale;

    __device__ __forceinline__ Span(const TileAxis& axis, int output) {
        low = output * axis.step;
        high = fminf(low + axis.step, (float)axis.grid);
        origin = axis.origin;
        fraction = axis.fraction;
        scale = 1.f / (high - low);
        first = (int)floorf(low);
        last = (int)ceilf(high);  // one more than the last grid cell, for the shift
    }

    __device__ __forceinline__ float weight(int k) const {
        return ((1.f - fraction) * overlap(k, low, high) +
                fraction * overlap(k - 1, low, high)) * scale;
    }
};

// What one block makes of a tile's plane; every thread makes RUN neighbours of one row.
const int RUN = 4, TILE_COLUMNS = 64, TILE_ROWS = 16;
const int TILE_THREADS = TILE_COLUMNS * TILE_ROWS / RUN;

// Both directions one after the other: the rows that the block reads are enlarged sideways once.
template <class Plane>
static __device__ void enlarge(
    typename Plane::Value (&found)[RUN], const Plane& plane, const TileAxis& across,
    const TileAxis& down, int x0, int y0) {
    typedef typename Plane::Value Value;
    const int TAPS = Plane::TAPS;
    // At most one source row per output row; one more where a position rounds up.
    __shared__ Value rows[TILE_ROWS + TAPS + 1][TILE_COLUMNS];
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    const int top = Window<TAPS>(down, y0).first;
    const int count = Window<TAPS>(down, y0 + TILE_ROWS - 1).first - top + TAPS + 1;
    const int column = thread % TILE_COLUMNS;
    const Window<TAPS> h(across, x0 + column);
    int xs[TAPS + 1];
#pragma unroll
    for (int k = 0; k <= TAPS; ++k) xs[k] = clamp_to(h.first + k, 0, plane.width - 1);
    for (int r = thread / TILE_COLUMNS; r < count; r += TILE_THREADS / TILE_COLUMNS) {
        const u8* row = row_of(plane, top + r);
        Value sum = Value();
#pragma unroll
        for (int k = 0; k <= TAPS; ++k) add(sum, h.weights[k], Plane::at(row, xs[k]));
        rows[r][column] = sum;
    }
    __syncthreads();
    const Window<TAPS> v(down, y0 + threadIdx.y);
#pragma unroll
    for (int k = 0; k <= TAPS; ++k)
#pragma unroll
        for (int n = 0; n < RUN; ++n)
            add(found[n], v.weights[k], rows[v.first - top + k][threadIdx.x * RUN + n]);
}

template <class Plane>
static __device__ typename Plane::Value shrunk(
    const Plane& plane, const TileAxis& across, const TileAxis& down, int x, int y) {
    typedef typename Plane::Value Value;
    const Span h(across, x), v(down, y);
    Value sum = Value();
    for (int j = v.first; j <= v.last; ++j) {
        const u8* row = row_of(plane, v.origin + j);
        Value mean = Value();
        for (int i = h.first; i <= h.last; ++i)
            add(mean, h.weight(i), Plane::at(row, clamp_to(h.origin + i, 0, plane.width - 1)));
        add(sum, v.weight(j), mean);
    }
    return sum;
}

// Writes COUNT bytes, a multiple of four, in words where they lie so.
template <int COUNT>
static __device__ __forceinline__ void store(u8* out, const u8 (&bytes)[COUNT], int count) {
    if (count == COUNT && (size_t)out % 4 == 0) {
#pragma unroll
        for (int n = 0; n < COUNT; n += 4)
            *(uchar4*)(out + n) =
                make_uchar4(bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]);
        return;
    }
#pragma unroll
    for (int n = 0; n < COUNT; ++n)
        if (n < count) out[n] = bytes[n];
}

// Draws the block's part of one plane of one tile.
// x0, y0: its corner, samples of the tile; out: the tile's plane, width x height samples.
template <class Plane>
static __device__ __forceinline__ void draw(
    const Plane& plane, const Tile& tile, const TileAxis& across, const TileAxis& down,
    int halved, int x0, int y0, int width, int height, typename Plane::Value black, u8* out,
    int out_pitch) {
    typename Plane::Value found[RUN] = {};
    const int x = x0 + threadIdx.x * RUN, y = y0 + threadIdx.y;
    if (!tile.shrinks) enlarge(found, plane, across, down, x0, y0);
    if (x >= width || y >= height) return;
    const bool rows = (y << halved) >= tile.top && (y << halved) < tile.bottom;
    u8 bytes[RUN * Plane::BYTES];
#pragma unroll
    for (int n = 0; n < RUN; ++n) {
        const int at = (x + n) << halved;
        if (!rows || at < tile.left || at >= tile.right)
            found[n] = black;
        else if (tile.shrinks)
            found[n] = shrunk(plane, across, down, x + n, y);
        Plane::write(bytes + n * Plane::BYTES, found[n]);
    }
    store(out + (size_t)y * out_pitch + x * Plane::BYTES, bytes, min(RUN, width - x) * Plane::BYTES);
}

// blockIdx.x: the blocks of the left tile, then those of the right one. blockIdx.y: the rows of luma,
// then half as many of chroma. blockIdx.z: the picture.
// Five blocks on a multiprocessor hide more waiting than the spilled registers cost (measured: 14 us
// a canvas, 16 with four blocks and none spilled).
extern "C" __global__ void __launch_bounds__(TILE_THREADS, 5)
    compose(const __grid_constant__ ComposeBatch batch) {
    const ComposeArgs& a = batch.items[blockIdx.z];
    const int luma_rows = (a.height + TILE_ROWS - 1) / TILE_ROWS;
    const int halved = (int)blockIdx.y >= luma_rows, side = blockIdx.x >= gridDim.x / 2;
    const Tile& tile = a.tiles[side];
    const int width = a.width / 2 >> halved, height = a.height >> halved;
    const int x0 = (blockIdx.x - side * (gridDim.x / 2)) * TILE_COLUMNS;
    const int y0 = (blockIdx.y - halved * luma_rows) * TILE_ROWS;
    if (x0 >= width || y0 >= height) return;
    if (halved)
        draw(Chroma(a.source), tile, tile.chroma_x, tile.chroma_y, halved, x0, y0, width, height,
             make_float2(128.f, 128.f), a.uv + 2 * side * width, a.width);
    else
        draw(Luma(a.source), tile, tile.luma_x, tile.luma_y, halved, x0, y0, width, height,
             (float)a.black, a.y + side * width, a.width);
}
