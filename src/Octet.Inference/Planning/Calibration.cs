using System.Collections.Concurrent;
using System.Globalization;

namespace Octet.Inference.Planning;

/// <summary>One measurement of one group, with EP = TP.</summary>
/// <param name="Tp">GPUs of the group.</param>
/// <param name="Input">Input tokens.</param>
/// <param name="Output">Output tokens.</param>
/// <param name="Concurrency">Requests in flight.</param>
/// <param name="TtftMs">Mean time to first token, milliseconds.</param>
/// <param name="TpotMs">Mean time per output token, milliseconds.</param>
public sealed record MeasuredPoint(int Tp, int Input, int Output, int Concurrency, double TtftMs, double TpotMs);

/// <summary>Mean absolute relative errors of predictions.</summary>
/// <param name="Points">Points compared.</param>
/// <param name="Ttft">Of the mean time to first token.</param>
/// <param name="Tpot">Of the mean time per output token.</param>
public sealed record CalibrationError(int Points, double Ttft, double Tpot);

/// <summary>A fitted engine and how well it does.</summary>
/// <param name="Engine">The engine with fitted constants.</param>
/// <param name="Fitted">Error on the points it was fitted to.</param>
/// <param name="HeldOut">Error on points left out: each (tp, input) group in turn is predicted by a fit to the others.</param>
public sealed record CalibrationReport(EngineCalibration Engine, CalibrationError Fitted, CalibrationError HeldOut);

/// <summary>Fits the five free constants of an engine to measurements, through the same simulation that predicts.</summary>
public sealed class Calibration
{
    private const string Header = "tp,input_tokens,output_tokens,concurrency,ttft_ms,tpot_ms";
    // TTFT is measured far more noisily than TPOT (it is the first to catch a load generator's own delays), so it weighs a hundredth as much in squares.
    private const double TtftWeight = 0.1;
    private const int Iterations = 6;
    // The simulation is a step function at small scale: a difference must span several of its steps.
    private const double Difference = 0.04;
    private static readonly double[] s_start = [100, 0.6, 0.7, 0.045, 200];
    private readonly ModelShape _model;
    private readonly PlanNode _node;
    private readonly EngineCalibration _engine;
    // The fits begin alike and share most of their points, and a refused step leaves a fit where it was: each asks for what another had.
    private readonly ConcurrentDictionary<(EngineCalibration Engine, MeasuredPoint Point), (double Ttft, double Tpot)> _predictions = [];

    /// <summary>Prepares a fit; constants that are not fitted come from <paramref name="engine"/>.</summary>
    public Calibration(ModelShape model, PlanNode node, EngineCalibration engine) => (_model, _node, _engine) = (model, node, engine);

    /// <summary>Reads measurements from CSV: the columns tp, input_tokens, output_tokens, concurrency, ttft_ms, tpot_ms; lines that begin with # are comments.</summary>
    /// <exception cref="PlanException">A line is not of that form.</exception>
    public static IReadOnlyList<MeasuredPoint> Parse(string csv)
    {
        ArgumentNullException.ThrowIfNull(csv);
        var points = new List<MeasuredPoint>();
        bool header = false;
        int number = 0;
        foreach (string line in csv.Split('\n').Select(line => line.Trim()))
        {
            number++;
            if (line.Length == 0 || line[0] == '#')
            {
                continue;
            }
            if (!header)
            {
                header = line == Header ? true : throw new PlanException($"line {number} of the measurements is '{line}', expected the header '{Header}'");
                continue;
            }
            points.Add(ParseLine(line, number));
        }
        return points.Count > 0 ? points : throw new PlanException("the measurements have no points");
    }

    /// <summary>Fits all of <paramref name="points"/>, and each group left out in turn.</summary>
    /// <exception cref="PlanException">The points do not span two (tp, input) groups, or one does not fit the node.</exception>
    public CalibrationReport Run(IReadOnlyList<MeasuredPoint> points)
    {
        ArgumentNullException.ThrowIfNull(points);
        var groups = points.GroupBy(point => (point.Tp, point.Input)).ToList();
        if (groups.Count < 2)
        {
            throw new PlanException($"the measurements have {groups.Count} (tp, input) group, at least 2 are needed to hold one out");
        }
        CheckFits(points);
        EngineCalibration engine = Fit(points);
        var heldOut = new List<CalibrationError>();
        foreach (var group in groups)
        {
            EngineCalibration others = Fit([.. points.Where(point => (point.Tp, point.Input) != group.Key)]);
            heldOut.Add(Error(others, [.. group]));
        }
        var error = new CalibrationError(points.Count, heldOut.Sum(e => e.Ttft * e.Points) / points.Count, heldOut.Sum(e => e.Tpot * e.Points) / points.Count);
        return new CalibrationReport(engine, Error(engine, points), error);
    }

    /// <summary>Fits the constants to <paramref name="points"/> by damped least squares of logarithmic errors.</summary>
    public EngineCalibration Fit(IReadOnlyList<MeasuredPoint> points)
    {
        ArgumentNullException.ThrowIfNull(points);
        double[] logs = [.. s_start.Select(value => Math.Log(value))];
        double[] residuals = Residuals(logs, points);
        double damping = 0.01;
        for (int iteration = 0; iteration < Iterations; iteration++)
        {
            double[][] slopes = [.. Enumerable.Range(0, logs.Length).Select(i => Slope(logs, i, points))];
            double[] moved = Step(logs, slopes, residuals, damping);
            double[] next = Residuals(moved, points);
            if (Square(next) < Square(residuals))
            {
                (logs, residuals, damping) = (moved, next, damping / 4);
            }
            else
            {
                damping *= 16;
            }
        }
        return With(logs);
    }

    /// <summary>Mean error of <paramref name="engine"/> on <paramref name="points"/>.</summary>
    public CalibrationError Error(EngineCalibration engine, IReadOnlyList<MeasuredPoint> points)
    {
        ArgumentNullException.ThrowIfNull(engine);
        ArgumentNullException.ThrowIfNull(points);
        double ttft = 0;
        double tpot = 0;
        foreach (MeasuredPoint point in points)
        {
            (double predictedTtft, double predictedTpot) = Predict(engine, point);
            ttft += Math.Abs(predictedTtft / point.TtftMs - 1) / points.Count;
            tpot += Math.Abs(predictedTpot / point.TpotMs - 1) / points.Count;
        }
        return new CalibrationError(points.Count, ttft, tpot);
    }

    /// <summary>The point with the latencies <paramref name="engine"/> is predicted to have there.</summary>
    internal MeasuredPoint Simulate(EngineCalibration engine, MeasuredPoint point)
    {
        (double ttft, double tpot) = Predict(engine, point);
        return point with { TtftMs = ttft, TpotMs = tpot };
    }

    private static MeasuredPoint ParseLine(string line, int number)
    {
        string[] fields = line.Split(',');
        double[] values = new double[6];
        for (int i = 0; i < values.Length; i++)
        {
            bool whole = i < 4;
            if (fields.Length != values.Length
                || !double.TryParse(fields[i], NumberStyles.Float, CultureInfo.InvariantCulture, out values[i])
                || !(values[i] > 0 && values[i] < 1e9) || (whole && values[i] != Math.Floor(values[i])))
            {
                throw new PlanException($"line {number} of the measurements is '{line}', expected six positive numbers: {Header}");
            }
        }
        return new MeasuredPoint((int)values[0], (int)values[1], (int)values[2], (int)values[3], values[4], values[5]);
    }

    private void CheckFits(IReadOnlyList<MeasuredPoint> points)
    {
        foreach (MeasuredPoint point in points)
        {
            if (point.Tp > _node.Count || !int.IsPow2(point.Tp) || point.Output < 2 || _node.KvTokens(_model, _engine, point.Tp) < point.Input + point.Output)
            {
                throw new PlanException($"the point tp {point.Tp}, input {point.Input}, output {point.Output} cannot run on {_node.Count}x {_node.Gpu.Name}: its group, its KV cache or its single output token");
            }
        }
    }

    private (double Ttft, double Tpot) Predict(EngineCalibration engine, MeasuredPoint point) =>
        _predictions.GetOrAdd((engine, point), _ =>
        {
            var step = new StepModel(_model, _node.Gpu, engine, point.Tp);
            ServingResult result = ServingSimulation.Run(step, new ServingLoad(point.Input, point.Output, point.Concurrency, _node.KvTokens(_model, engine, point.Tp)));
            return (result.TtftMs.Average(), result.TpotMs.Average());
        });

    private double[] Residuals(double[] logs, IReadOnlyList<MeasuredPoint> points)
    {
        EngineCalibration engine = With(logs);
        double[] residuals = new double[2 * points.Count];
        System.Threading.Tasks.Parallel.For(0, points.Count, i =>
        {
            (double ttft, double tpot) = Predict(engine, points[i]);
            residuals[2 * i] = TtftWeight * Math.Log(ttft / points[i].TtftMs);
            residuals[2 * i + 1] = Math.Log(tpot / points[i].TpotMs);
        });
        return residuals;
    }

    private double[] Slope(double[] logs, int parameter, IReadOnlyList<MeasuredPoint> points)
    {
        double[] above = [.. logs];
        double[] below = [.. logs];
        above[parameter] += Difference;
        below[parameter] -= Difference;
        return [.. Residuals(above, points).Zip(Residuals(below, points), (a, b) => (a - b) / (2 * Difference))];
    }

    private static double[] Step(double[] logs, double[][] slopes, double[] residuals, double damping)
    {
        int n = logs.Length;
        double[,] normal = new double[n, n + 1];
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                normal[i, j] = Dot(slopes[i], slopes[j]) * (i == j ? 1 + damping : 1);
            }
            normal[i, n] = -Dot(slopes[i], residuals);
        }
        double[] step = Solve(normal);
        // A constant moves by at most a factor of two a step, so a flat direction cannot throw it away.
        return [.. logs.Zip(step, (value, change) => value + Math.Clamp(change, -Math.Log(2), Math.Log(2)))];
    }

    // Gauss-Jordan without pivoting: the matrix is symmetric and its damped diagonal positive.
    private static double[] Solve(double[,] system)
    {
        int n = system.GetLength(0);
        for (int pivot = 0; pivot < n; pivot++)
        {
            double scale = system[pivot, pivot] + double.Epsilon;
            for (int row = 0; row < n; row++)
            {
                double factor = row == pivot ? 0 : system[row, pivot] / scale;
                for (int column = pivot; column <= n; column++)
                {
                    system[row, column] -= factor * system[pivot, column];
                }
            }
        }
        return [.. Enumerable.Range(0, n).Select(i => system[i, n] / (system[i, i] + double.Epsilon))];
    }

    private static double Dot(double[] a, double[] b) => a.Zip(b, (x, y) => x * y).Sum();

    private static double Square(double[] a) => Dot(a, a);

    private EngineCalibration With(double[] logs)
    {
        EngineConstant Constant(int i) => new(Math.Exp(logs[i]), "published", "fitted to measurements");
        return _engine with { StepFloor = Constant(0), MemoryFactor = Constant(1), DecodeToken = Constant(2), PrefillTokenRank = Constant(3), FrontEnd = Constant(4) };
    }
}
