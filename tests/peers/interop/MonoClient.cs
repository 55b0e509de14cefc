// The ASMX client of Mono, by the proxy that `wsdl` makes: URL, API key, number, customer, kind. Prints what it got as JSON.
using System;
using System.Globalization;
using System.Net;
using System.Web.Script.Serialization;
using System.Web.Services.Protocols;
using Orders;

class Keyed : Orders.Orders {
  public string Key;

  protected override WebRequest GetWebRequest(Uri uri) {
    var request = base.GetWebRequest(uri);
    request.Headers["X-Api-Key"] = Key;
    return request;
  }
}

static class MonoClient {
  static void Main(string[] args) {
    var client = new Keyed { Url = args[0], Key = args[1] };
    var lines = new[] { new Line { Sku = "茶", Qty = 2, Tag = new[] { "a", "<b>" } }, new Line { Sku = "杯", Qty = 1 } };
    var total = decimal.Parse("12345678901234567.89", CultureInfo.InvariantCulture);
    var kind = (Kind) Enum.Parse(typeof(Kind), args[4]);
    object said;
    try {
      int count;
      var got = client.Submit(args[2], args[3], null, total, true, new DateTime(2026, 2, 28), kind, true, lines, out count);
      said = new { ok = new { Got = got, Count = count } };
    } catch (SoapException fault) {
      said = new { fault = fault.Message, code = fault.Code.Name, detail = fault.Detail == null ? null : fault.Detail.InnerXml };
    }
    Console.OutputEncoding = new System.Text.UTF8Encoding(false);
    Console.WriteLine(new JavaScriptSerializer().Serialize(said));
  }
}
