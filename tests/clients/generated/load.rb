# Loads every generated file below ARGV[0] and prints each service's methods: "FolderService ListFolders GetFolder ...".
$LOAD_PATH.unshift ARGV.fetch(0)
Dir.children(File.join(ARGV[0], "restante/v1")).sort.each { |file| require "restante/v1/#{file}" }
Restante::V1.constants.sort.each do |name|
  next unless name.end_with?("Service")

  service = Restante::V1.const_get(name)
  raise "#{name} has no stub" unless service::Stub < GRPC::ClientStub

  puts [name, *service::Service.rpc_descs.keys].join(" ")
end
