// y[i] = alpha * x[i] + y[i], one rounding an element (fused multiply-add).
extern "C" __global__ void axpy_f32(const unsigned long long n, const float alpha, const float *x, float *y) {
    const unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        y[i] = fmaf(alpha, x[i], y[i]);
    }
}
