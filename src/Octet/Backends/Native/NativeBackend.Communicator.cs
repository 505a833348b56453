using System.Runtime.InteropServices;

namespace Octet.Backends;

internal sealed unsafe partial class NativeBackend
{
    public override CommunicatorHandle CreateCommunicator(IReadOnlyList<Backend> ranks, string? library) =>
        new NativeCommunicatorHandle([.. ranks.Select(rank => rank is NativeBackend native ? native._device : throw Unreachable(rank))], library);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    private static partial OctetStatus octet_communicator_create(nint* devices, int count, string? library, out nint communicator);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_communicator_all_reduce(SafeHandle communicator, int rank, nint values, long count, SafeHandle stream);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_communicator_check(SafeHandle communicator, int rank);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_communicator_abort(SafeHandle communicator);

    [LibraryImport(Library)]
    private static partial OctetStatus octet_communicator_destroy(nint communicator);

    /// <summary>It keeps the devices of its ranks open.</summary>
    private sealed class NativeCommunicatorHandle : CommunicatorHandle
    {
        private readonly SafeHandle[] _devices;

        public NativeCommunicatorHandle(SafeHandle[] devices, string? library)
        {
            _devices = devices;
            var added = 0;
            try
            {
                for (; added < devices.Length; added++)
                {
                    var isAdded = false;
                    devices[added].DangerousAddRef(ref isAdded);
                }

                nint[] ranks = [.. devices.Select(device => device.DangerousGetHandle())];
                fixed (nint* first = ranks)
                {
                    NativeBackend.Check(octet_communicator_create(first, ranks.Length, library, out var communicator));
                    SetHandle(communicator);
                }
            }
            catch
            {
                Array.ForEach(devices[..added], device => device.DangerousRelease());
                throw;
            }
        }

        public override void AllReduce(int rank, DeviceStream stream, in TensorView values) =>
            NativeBackend.Check(octet_communicator_all_reduce(this, rank, values.Address, values.ElementCount, stream.Handle));

        public override void Check(int rank) => NativeBackend.Check(octet_communicator_check(this, rank));

        public override void Abort() => NativeBackend.Check(octet_communicator_abort(this));

        protected override bool ReleaseHandle()
        {
            var status = octet_communicator_destroy(handle);
            Array.ForEach(_devices, device => device.DangerousRelease());
            return status == OctetStatus.Ok;
        }
    }
}
