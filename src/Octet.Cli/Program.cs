Console.WriteLine("octet");
