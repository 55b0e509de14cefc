<?php
// PHP's SoapServer (rpc/encoded) is called by the gateway, under `php -S`. The environment names the WSDL and the log file.
class Orders {
    public function submit($token, $order) {
        $got = ['token' => $token, 'order' => $order];
        file_put_contents(getenv('PEER_LOG'), json_encode($got, JSON_UNESCAPED_UNICODE) . "\n", FILE_APPEND);
        if (str_starts_with($order->no, 'BAD')) {
            throw new SoapFault('Client', '没有这个客户: no such customer', null, ['code' => 7]);
        }
        return 'ok ' . $order->no;
    }
}
ini_set('soap.wsdl_cache_enabled', '0');
$server = new SoapServer(getenv('PEER_WSDL'));
$server->setClass(Orders::class);
$server->handle();
