using Octet.Backends;

namespace Octet.Tests.Backends.Cpu;

public sealed unsafe class CpuThreadsTests
{
    private const long Large = 1 << 30;

    [Theory]
    [InlineData(1, 1000)]
    [InlineData(2, 1)]
    [InlineData(3, 2)]
    [InlineData(5, 1000)]
    public void Each_piece_runs_once(int threads, int count)
    {
        using var pool = new CpuThreads(threads, CpuKernels.Create());
        var runs = new int[count];
        fixed (int* pointer = runs)
        {
            for (var round = 1; round <= 50; round++)
            {
                pool.For(count, Large, new CountTask { Runs = pointer });
                Assert.All(runs, r => Assert.Equal(round, r));
            }
        }
    }

    [Fact]
    public void No_pieces_run_nothing()
    {
        using var pool = new CpuThreads(2, CpuKernels.Create());
        pool.For(0, Large, new FailTask { At = 0 });
    }

    [Fact]
    public void Failed_piece_throws_on_the_caller_and_the_threads_go_on()
    {
        using var pool = new CpuThreads(3, CpuKernels.Create());
        for (var round = 0; round < 20; round++)
        {
            var error = Assert.Throws<InvalidOperationException>(() => pool.For(100, Large, new FailTask { At = 57 }));
            Assert.Equal("piece 57", error.Message);
        }

        var runs = new int[10];
        fixed (int* pointer = runs)
        {
            pool.For(10, Large, new CountTask { Runs = pointer });
        }

        Assert.All(runs, r => Assert.Equal(1, r));
    }

    [Fact]
    public void Callers_on_several_threads_take_turns()
    {
        using var pool = new CpuThreads(3, CpuKernels.Create());
        Parallel.For(0, 8, _ =>
        {
            var runs = new int[64];
            fixed (int* pointer = runs)
            {
                for (var round = 1; round <= 20; round++)
                {
                    pool.For(64, Large, new CountTask { Runs = pointer });
                    Assert.All(runs, r => Assert.Equal(round, r));
                }
            }
        });
    }

    [Fact]
    public void Loop_allocates_nothing_once_its_threads_run()
    {
        using var pool = new CpuThreads(3, CpuKernels.Create());
        var runs = new int[64];
        fixed (int* pointer = runs)
        {
            var task = new CountTask { Runs = pointer };
            pool.For(64, Large, task);
            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var round = 0; round < 100; round++)
            {
                pool.For(64, Large, task);
            }

            Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        }
    }

    [Fact]
    public void Loop_after_dispose_throws_and_a_second_dispose_does_nothing()
    {
        var pool = new CpuThreads(2, CpuKernels.Create());
        pool.For(4, Large, default(NoTask));
        pool.Dispose();
        pool.Dispose();
        Assert.Throws<ObjectDisposedException>(() => pool.For(4, Large, default(NoTask)));
    }

    private struct NoTask : ICpuTask
    {
        public readonly void Run(long index, CpuWorker worker)
        {
        }
    }

    private struct CountTask : ICpuTask
    {
        public int* Runs;

        public readonly void Run(long index, CpuWorker worker) => Interlocked.Increment(ref Runs[index]);
    }

    private struct FailTask : ICpuTask
    {
        public long At;

        public readonly void Run(long index, CpuWorker worker)
        {
            if (index == At)
            {
                throw new InvalidOperationException($"piece {index}");
            }
        }
    }
}
