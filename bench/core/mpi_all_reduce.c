/* All-reduce over two processes by MPI on this machine, one JSON line {name, value, unit} each.
 *
 *     mpicc -O3 -march=native mpi_all_reduce.c -o mpi_all_reduce && mpirun -np 2 ./mpi_all_reduce
 *
 *     mpi_4kib, mpi_4mib, mpi_64mib    GiB of a float buffer reduced per second, of each rank's own buffer
 *
 * MPI has no mean, so this is its sum; our side sums and divides. The clock is the slower rank's, the figure the median of a few
 * rounds after a warm-up.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 5, ROUND_BYTES = 256 << 20 };

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double measure(size_t size) {
    float *buffer = calloc(size, 1);
    if (!buffer) MPI_Abort(MPI_COMM_WORLD, 1);
    long times = (long)(ROUND_BYTES / size);
    times = times < 4 ? 4 : times > 2000 ? 2000 : times;
    double rounds[ROUNDS + 1];
    for (int round = 0; round <= ROUNDS; round++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double start = MPI_Wtime();
        for (long i = 0; i < times; i++)
            MPI_Allreduce(MPI_IN_PLACE, buffer, (int)(size / sizeof(float)), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        double took = (MPI_Wtime() - start) / (double)times;
        MPI_Allreduce(&took, &rounds[round], 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    }
    free(buffer);
    qsort(rounds + 1, ROUNDS, sizeof(double), ascending); /* the first round is the warm-up */
    return rounds[1 + ROUNDS / 2];
}

int main(int argc, char **argv) {
    static const struct { const char *name; size_t size; } sizes[] = {{"4kib", 4 << 10}, {"4mib", 4 << 20}, {"64mib", 64 << 20}};
    MPI_Init(&argc, &argv);
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        double seconds = measure(sizes[i].size);
        if (rank == 0)
            printf("{\"name\": \"mpi_%s\", \"value\": %g, \"unit\": \"GiB/s\"}\n", sizes[i].name, (double)sizes[i].size / (1 << 30) / seconds);
    }
    MPI_Finalize();
    return 0;
}
