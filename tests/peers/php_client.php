<?php
// PHP's SoapClient calls the gateway: WSDL URL, API key, operation, the arguments as a JSON list. Prints what it got as JSON.
[, $url, $key, $operation, $call] = $argv;
$context = stream_context_create(['http' => ['header' => "X-Api-Key: $key"]]);
$client = new SoapClient($url, ['stream_context' => $context, 'cache_wsdl' => WSDL_CACHE_NONE, 'features' => SOAP_SINGLE_ELEMENT_ARRAYS]);
$arguments = json_decode($call, true);
// One line twice is one object: PHP tells it once and refers to it.
if (isset($arguments[1]['lines'])) {
    $line = (object) $arguments[1]['lines'][0];
    $arguments[1]['lines'] = [$line, $line];
}
try {
    echo json_encode(['ok' => $client->__soapCall($operation, $arguments)], JSON_UNESCAPED_UNICODE), "\n";
} catch (SoapFault $fault) {
    echo json_encode(['fault' => $fault->faultstring, 'code' => $fault->faultcode, 'detail' => $fault->detail ?? null], JSON_UNESCAPED_UNICODE), "\n";
}
