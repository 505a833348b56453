using Octet.Inference.Loading;

namespace Octet.Tests.Inference.Loading;

public sealed class NetworkFileSystemTests
{
    [Theory]
    [InlineData(0x6969u, "NFS")]
    [InlineData(0xFF534D42u, "CIFS")]
    [InlineData(0xFE534D42u, "SMB2")]
    [InlineData(0x65735546u, "FUSE")]
    [InlineData(0x0BD00BD0u, "Lustre")]
    [InlineData(0x01021997u, "9P")]
    [InlineData(0x00C36400u, "Ceph")]
    [InlineData(0x47504653u, "GPFS")]
    [InlineData(0xEF53u, null)] // ext4
    [InlineData(0x58465342u, null)] // XFS
    [InlineData(0x9123683Eu, null)] // btrfs
    [InlineData(0x01021994u, null)] // tmpfs
    [InlineData(0x794C7630u, null)] // overlay
    [InlineData(0x2FC12FC1u, null)] // ZFS
    public void Kinds_of_file_systems_are_told_by_their_number(uint kind, string? name) => Assert.Equal(name, NetworkFileSystem.NameOf(kind));

    [Fact]
    public void Memory_is_no_network_and_a_path_that_is_not_there_counts_as_one()
    {
        Assert.True(NetworkFileSystem.Holds(Path.Combine(Path.GetTempPath(), Guid.NewGuid().ToString("N"), "absent")));
        if (Directory.Exists("/dev/shm"))
        {
            Assert.False(NetworkFileSystem.Holds("/dev/shm"));
        }
    }
}
