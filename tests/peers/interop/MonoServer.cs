// WCF as Mono has it is called by the gateway: log file. Prints `ready PORT`; logs what it got as JSON lines.
// Orders whose number begins with BAD are refused; how WCF does that, with a header block that must be understood.
using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Runtime.Serialization;
using System.ServiceModel;
using System.ServiceModel.Description;
using System.Threading;
using System.Web.Script.Serialization;

[DataContract(Namespace = "urn:wcf")]
public class Line {
  [DataMember(Order = 0)] public string Sku;
  [DataMember(Order = 1)] public int Qty;
  [DataMember(Order = 2)] public List<string> Tags;
}

[DataContract(Namespace = "urn:wcf")]
public class Order {
  [DataMember(Order = 0)] public string No;
  [DataMember(Order = 1)] public string Customer;
  [DataMember(Order = 2)] public string Note;
  [DataMember(Order = 3)] public decimal Total;
  [DataMember(Order = 4)] public bool Paid;
  [DataMember(Order = 5)] public DateTime Due;
  [DataMember(Order = 6)] public List<Line> Lines;
}

[DataContract(Namespace = "urn:wcf")]
public class Receipt {
  [DataMember(Order = 0)] public string Got;
  [DataMember(Order = 1)] public decimal Total;
  [DataMember(Order = 2)] public List<Line> Lines;
}

[DataContract(Namespace = "urn:wcf")]
public class Refused {
  [DataMember(Order = 0)] public string Why;
}

[ServiceContract(Namespace = "urn:wcf")]
public interface IOrders {
  [OperationContract]
  [FaultContract(typeof(Refused))]
  Receipt Submit(Order order);
}

[ServiceBehavior(InstanceContextMode = InstanceContextMode.Single)]
public class MonoServer : IOrders {
  static string log;

  public Receipt Submit(Order order) {
    var due = order.Due.ToString("yyyy-MM-dd");
    var total = order.Total.ToString(System.Globalization.CultureInfo.InvariantCulture);
    var got = new { order.No, order.Customer, order.Note, Total = total, order.Paid, Due = due, order.Lines };
    File.AppendAllText(log, new JavaScriptSerializer().Serialize(got) + "\n");
    if (order.No.StartsWith("BAD"))
      throw new FaultException<Refused>(new Refused { Why = "库存不足 & <none>" }, new FaultReason("out of stock"));
    return new Receipt { Got = order.Customer, Total = order.Total, Lines = order.Lines };
  }

  static void Main(string[] args) {
    log = args[0];
    // It takes no port 0: a free one is found, and given up just before.
    var free = new TcpListener(IPAddress.Loopback, 0);
    free.Start();
    var port = ((IPEndPoint) free.LocalEndpoint).Port;
    free.Stop();
    var host = new ServiceHost(typeof(MonoServer), new Uri("http://127.0.0.1:" + port + "/orders"));
    host.AddServiceEndpoint(typeof(IOrders), new BasicHttpBinding(), "");
    host.Description.Behaviors.Add(new ServiceMetadataBehavior { HttpGetEnabled = true });
    host.Open();
    Console.WriteLine("ready " + port);
    Thread.Sleep(Timeout.Infinite);
  }
}
