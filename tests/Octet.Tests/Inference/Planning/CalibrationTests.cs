using Octet.Inference.Planning;

namespace Octet.Tests.Inference.Planning;

public class CalibrationTests
{
    private static readonly IReadOnlyList<MeasuredPoint> s_measured = Calibration.Parse(PlanData.ReadText("h100-qwen3-235b-fp8.csv"));

    private static Calibration OnH100() => new(ModelShape.Find(ModelShape.Target), PlanNode.Parse("h100:8"), EngineCalibration.Find("trtllm"));

    [Fact]
    public void Points_held_out_are_predicted_within_the_bounds_and_the_shipped_constants_are_the_fit()
    {
        CalibrationReport report = OnH100().Run(s_measured);
        Assert.Equal(s_measured.Count, report.HeldOut.Points);
        Assert.InRange(report.HeldOut.Tpot, 0, 0.04);
        Assert.InRange(report.HeldOut.Ttft, 0, 0.22);
        foreach (((string name, EngineConstant fitted), (_, EngineConstant shipped)) in report.Engine.Constants.Zip(EngineCalibration.Find("trtllm").Constants))
        {
            Assert.True(Math.Abs(shipped.Value / fitted.Value - 1) < 0.01, $"{name}: {shipped.Value} is shipped, {fitted.Value} fitted");
        }
    }

    [Fact]
    public void Constants_that_made_the_points_are_found_again()
    {
        EngineCalibration truth = EngineCalibration.Find("trtllm");
        truth = truth with { StepFloor = truth.StepFloor with { Value = 130 }, DecodeToken = truth.DecodeToken with { Value = 0.9 } };
        Calibration calibration = OnH100();
        var points = s_measured.Where((_, i) => i % 3 == 0).Select(point => calibration.Simulate(truth, point)).ToList();
        EngineCalibration found = calibration.Fit(points);
        Assert.InRange(calibration.Error(found, points).Tpot, 0, 0.005);
        Assert.Equal(130, found.StepFloor.Value, 4.0);
    }

    [Theory]
    [InlineData("")]
    [InlineData("# only a comment\n")]
    [InlineData("tp,input\n4,128\n")]
    [InlineData("tp,input_tokens,output_tokens,concurrency,ttft_ms,tpot_ms\n4,128,128,64,232.5\n")]
    [InlineData("tp,input_tokens,output_tokens,concurrency,ttft_ms,tpot_ms\n4,128,128,64,232.5,fast\n")]
    [InlineData("tp,input_tokens,output_tokens,concurrency,ttft_ms,tpot_ms\n4,128,128,-64,232.5,26\n")]
    [InlineData("tp,input_tokens,output_tokens,concurrency,ttft_ms,tpot_ms\n4,128.5,128,64,232.5,26\n")]
    public void Measurements_of_another_form_are_refused(string csv) => Assert.Throws<PlanException>(() => Calibration.Parse(csv));

    [Fact]
    public void A_single_group_cannot_be_held_out() =>
        Assert.Throws<PlanException>(() => OnH100().Run([.. s_measured.Where(point => point is { Tp: 4, Input: 128 })]));

    [Fact]
    public void A_point_that_does_not_fit_the_node_is_refused() =>
        Assert.Throws<PlanException>(() => OnH100().Run([.. s_measured, s_measured[0] with { Tp = 2 }]));
}
