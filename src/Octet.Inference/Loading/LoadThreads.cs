using System.Runtime.ExceptionServices;

namespace Octet.Inference.Loading;

/// <summary>Work that several threads do at once while a checkpoint is loaded.</summary>
internal static class LoadThreads
{
    /// <summary>Does work 0 to <paramref name="count"/> - 1 at once, the first on this thread, and waits for all of it.</summary>
    /// <param name="count">How much there is.</param>
    /// <param name="stop">Cancelled when any of it fails.</param>
    /// <param name="work">Told which of it is to be done.</param>
    /// <returns>What failed first; null: nothing did.</returns>
    public static ExceptionDispatchInfo? Run(int count, CancellationTokenSource stop, Action<int> work)
    {
        ExceptionDispatchInfo? failure = null;

        void Try(int i)
        {
            try
            {
                work(i);
            }
#pragma warning disable CA1031 // whatever it is, the caller throws it again
            catch (Exception error)
#pragma warning restore CA1031
            {
                Interlocked.CompareExchange(ref failure, ExceptionDispatchInfo.Capture(error), null);
                stop.Cancel();
            }
        }

        Thread[] threads = [.. Enumerable.Range(1, Math.Max(count - 1, 0)).Select(i => new Thread(() => Try(i)) { IsBackground = true, Name = "octet loading" })];
        Array.ForEach(threads, thread => thread.Start());
        if (count > 0)
        {
            Try(0);
        }

        Array.ForEach(threads, thread => thread.Join());
        return failure;
    }
}
