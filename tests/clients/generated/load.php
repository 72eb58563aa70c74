<?php
// Loads every generated message and enum below $argv[1], and has each message through its encoding and back. Prints how
// many there were. Whatever PHP warns of in a generated file ends it; the library's own deprecations are not ours.
$root = realpath($argv[1]);
set_error_handler(function (int $level, string $text, string $file, int $line) use ($root): bool {
    if (str_starts_with($file, $root)) {
        throw new ErrorException($text, 0, $level, $file, $line);
    }
    return true;
});
set_include_path("$root:" . get_include_path());
spl_autoload_register(function (string $class): void {
    $file = stream_resolve_include_path(str_replace("\\", "/", $class) . ".php");
    if ($file !== false) {
        require_once $file;
    }
});
$loaded = 0;
foreach (glob("$root/Restante/V1/*.php") as $file) {
    $name = basename($file, ".php");
    if (str_ends_with($name, "ServiceClient")) {
        continue; // They extend \Grpc\BaseStub, which Debian does not package.
    }
    $class = "Restante\\V1\\$name";
    if (!class_exists($class)) {
        throw new Exception("$file has no class $class");
    }
    if (is_subclass_of($class, \Google\Protobuf\Internal\Message::class)) {
        $message = new $class();
        $message->mergeFromString($message->serializeToString());
    }
    $loaded++;
}
print("$loaded\n");
