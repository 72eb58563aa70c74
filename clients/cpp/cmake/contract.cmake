# What is generated from protos/restante/v1, at every build: messages and stubs by protoc, and the list of unary
# RPCs by a regular expression, when CMake runs. Sets CONTRACT_SOURCES (of which CONTRACT_MESSAGES are a part) and
# CONTRACT_HEADERS; everything goes below CONTRACT_DIR.

find_path(RESTANTE_GOOGLEAPIS google/rpc/error_details.proto
  HINTS ${RESTANTE_VENV_PACKAGES} /usr/include /usr/local/include
  DOC "The directory that has google/rpc/status.proto and error_details.proto")
if(NOT RESTANTE_GOOGLEAPIS)
  message(FATAL_ERROR "google/rpc/error_details.proto was not found: run `make setup` in the source tree, which brings "
    "it with Python's googleapis-common-protos, or say where it is with -DRESTANTE_GOOGLEAPIS=DIRECTORY")
endif()

set(CONTRACT_DIR ${CMAKE_CURRENT_BINARY_DIR}/contract)
set(CONTRACT_MESSAGES)
set(CONTRACT_HEADERS)
set(protos)
set(inputs)
set(stubs)
set(outputs)
file(GLOB found CONFIGURE_DEPENDS RELATIVE ${RESTANTE_PROTOS} ${RESTANTE_PROTOS}/restante/v1/*.proto)
list(APPEND found google/rpc/status.proto google/rpc/error_details.proto)
set(declared "")
set(rpcs "")
foreach(proto IN LISTS found)
  string(REGEX REPLACE "\\.proto$" "" stem ${proto})
  list(APPEND protos ${proto})
  if(proto MATCHES "^restante/")
    list(APPEND inputs ${RESTANTE_PROTOS}/${proto})
  endif()
  list(APPEND CONTRACT_HEADERS ${CONTRACT_DIR}/${stem}.pb.h)
  list(APPEND CONTRACT_MESSAGES ${CONTRACT_DIR}/${stem}.pb.cc)
  list(APPEND outputs ${CONTRACT_DIR}/${stem}.pb.cc ${CONTRACT_DIR}/${stem}.pb.h)
  if(NOT proto MATCHES "^restante/")
    continue()
  endif()
  list(APPEND outputs ${CONTRACT_DIR}/${stem}.grpc.pb.cc ${CONTRACT_DIR}/${stem}.grpc.pb.h)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${RESTANTE_PROTOS}/${proto})
  file(READ ${RESTANTE_PROTOS}/${proto} text)
  if(NOT text MATCHES "\nservice ")
    continue()
  endif()
  list(APPEND CONTRACT_HEADERS ${CONTRACT_DIR}/${stem}.grpc.pb.h)
  list(APPEND stubs ${CONTRACT_DIR}/${stem}.grpc.pb.cc)
  # Unary RPCs: the type of the request says which it is, and so which response comes.
  string(REGEX MATCHALL "rpc [A-Za-z]+\\([A-Za-z]+\\) returns \\([A-Za-z]+\\)" unary "${text}")
  foreach(rpc IN LISTS unary)
    string(REGEX MATCH "rpc ([A-Za-z]+)\\(([A-Za-z]+)\\) returns \\(([A-Za-z]+)\\)" _ "${rpc}")
    string(APPEND declared "class ${CMAKE_MATCH_2};\nclass ${CMAKE_MATCH_3};\n")
    string(APPEND rpcs
      "template <>\nstruct Rpc<v1::${CMAKE_MATCH_2}> {\n  using Response = v1::${CMAKE_MATCH_3};\n};\n")
  endforeach()
endforeach()
set(CONTRACT_SOURCES ${CONTRACT_MESSAGES} ${stubs})
if(rpcs STREQUAL "")
  message(FATAL_ERROR "no RPC was found below ${RESTANTE_PROTOS}")
endif()
configure_file(${CMAKE_CURRENT_SOURCE_DIR}/include/restante/rpcs.h.in ${CONTRACT_DIR}/restante/rpcs.h @ONLY)
list(APPEND CONTRACT_HEADERS ${CONTRACT_DIR}/restante/rpcs.h)

add_custom_command(
  OUTPUT ${outputs}
  COMMAND protobuf::protoc --cpp_out=${CONTRACT_DIR} --grpc_out=${CONTRACT_DIR}
    --plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>
    -I ${RESTANTE_PROTOS} -I ${RESTANTE_GOOGLEAPIS} ${protos}
  DEPENDS ${inputs}
  WORKING_DIRECTORY ${RESTANTE_PROTOS}
  COMMENT "Generating messages and stubs from ${RESTANTE_PROTOS}"
  VERBATIM)
