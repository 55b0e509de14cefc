"""spyne is called by the gateway: SOAP version ("11" or "12") and a log file. Prints `ready PORT`; logs what it got as JSON lines."""
import base64, json, logging, sys
from wsgiref.simple_server import WSGIRequestHandler, make_server
from spyne import AnyXml, Application, Array, Boolean, ByteArray, ComplexModel, Date, Decimal, Fault, Integer, ServiceBase, Unicode, rpc
from spyne.protocol.soap import Soap11, Soap12
from spyne.server.wsgi import WsgiApplication

logging.disable(logging.CRITICAL)
version, log = sys.argv[1:3]
NS = "urn:spyne"
must = dict(min_occurs=1, nillable=False)


class Line(ComplexModel):
    __namespace__ = NS
    _type_info = [("sku", Unicode(**must)), ("qty", Integer(**must)), ("tag", Unicode(max_occurs="unbounded"))]


class Order(ComplexModel):
    __namespace__ = NS
    _type_info = [
        ("no", Unicode(**must)), ("customer", Unicode(**must)), ("note", Unicode(nillable=True)), ("total", Decimal(**must)),
        ("paid", Boolean(**must)), ("due", Date), ("lines", Array(Line)),
    ]


class Token(ComplexModel):
    __namespace__ = NS
    _type_info = [("value", Unicode)]


class Orders(ServiceBase):
    __in_header__ = Token

    @rpc(Order, _returns=Unicode)
    def submit(ctx, order):
        with open(log, "a", encoding="utf-8") as file:
            lines = [{"sku": l.sku, "qty": l.qty, "tag": l.tag} for l in order.lines or []]
            header = ctx.in_header.value if ctx.in_header is not None else None
            file.write(json.dumps({
                "no": order.no, "customer": order.customer, "note": order.note, "total": str(order.total), "paid": order.paid,
                "due": str(order.due), "lines": lines, "token": header,
            }, ensure_ascii=False) + "\n")
        if order.no.startswith("BAD"):
            raise Fault("Client.Unknown", "客户不存在: no such customer", detail={"customer": order.customer})
        return "ok " + order.no


class Files(ServiceBase):
    @rpc(Unicode(**must), ByteArray(**must), _returns=Unicode)
    def upload(ctx, name, content):
        request = ctx.transport.req_env
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps({
                "name": name, "content": base64.b64encode(b"".join(content)).decode(), "media": request["CONTENT_TYPE"].split(";")[0],
            }, ensure_ascii=False) + "\n")
        return "ok"


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


protocol = Soap11 if version == "11" else Soap12
application = Application([Orders, Files], NS, in_protocol=protocol(validator="lxml"), out_protocol=protocol())
server = make_server("127.0.0.1", 0, WsgiApplication(application), handler_class=Quiet)
print(f"ready {server.server_port}", flush=True)
server.serve_forever()
