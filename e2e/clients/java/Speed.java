import io.grpc.CallOptions;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;

/**
 * Asks one member as much as gRPC for Java can, over one connection that also carries a watch.
 *
 * <p>Usage: java Speed.java http://HOST:PORT SECONDS. Ends with 0 and a line per claim when every call was answered, and
 * with 1 and the reason otherwise. Requests are written by hand, so that gRPC is all it needs.
 */
class Speed {
  static final int CALLERS = 64;
  static final int WATCHES = 20_000;
  static final int RENEWALS = 16_000;

  public static void main(String[] arguments) {
    try {
      run(arguments[0].replace("http://", ""), Double.parseDouble(arguments[1]));
      System.exit(0);
    } catch (Throwable failure) {
      failure.printStackTrace();
      System.exit(1);
    }
  }

  interface Call {
    void make(int number) throws Exception;
  }

  static void run(String target, double seconds) throws Throwable {
    ManagedChannel channel = ManagedChannelBuilder.forTarget(target).usePlaintext().build();
    Stream watch = new Stream(channel, "etcdserverpb.Watch/Watch");
    watch.send(field(1, field(1, "watched".getBytes())));
    watch.take(1);

    byte[] v = field(2, "v".getBytes());
    long done = atOnce(seconds, number -> call(channel, "etcdserverpb.KV/Put", all(key(number), v)));
    System.out.println("ok " + done + " puts were answered");
    done = atOnce(seconds, number -> call(channel, "etcdserverpb.KV/Range", key(number)));
    System.out.println("ok " + done + " gets were answered");

    for (int number = 0; number < WATCHES; number++) {
      watch.send(field(1, key(number)));
    }
    watch.take(WATCHES);
    System.out.println("ok " + WATCHES + " watches were created at once");

    byte[] granted = call(channel, "etcdserverpb.Lease/LeaseGrant", all(field(1, 600), field(2, 77)));
    if (granted.length == 0) {
      throw new IOException("no lease");
    }
    Stream renewals = new Stream(channel, "etcdserverpb.Lease/LeaseKeepAlive");
    for (int number = 0; number < RENEWALS; number++) {
      renewals.send(field(1, 77));
    }
    renewals.take(RENEWALS);
    System.out.println("ok " + RENEWALS + " renewals were answered at once");

    call(channel, "etcdserverpb.KV/Put", all(field(1, "watched".getBytes()), v));
    watch.take(1);
    System.out.println("ok the watch lived through all of it");
  }

  /** Repeats a call from many threads, and returns how many were answered. */
  static long atOnce(double seconds, Call call) throws Throwable {
    long until = System.nanoTime() + (long) (seconds * 1e9);
    AtomicLong done = new AtomicLong();
    AtomicReference<Throwable> failure = new AtomicReference<>();
    List<Thread> threads = new ArrayList<>();
    for (int number = 0; number < CALLERS; number++) {
      int caller = number;
      Thread thread =
          new Thread(
              () -> {
                try {
                  while (System.nanoTime() < until && failure.get() == null) {
                    call.make(caller);
                    done.incrementAndGet();
                  }
                } catch (Throwable why) {
                  failure.compareAndSet(null, why);
                }
              });
      threads.add(thread);
      thread.start();
    }
    for (Thread thread : threads) {
      thread.join();
    }
    if (failure.get() != null) {
      throw failure.get();
    }
    return done.get();
  }

  static byte[] call(ManagedChannel channel, String path, byte[] request) {
    return ClientCalls.blockingUnaryCall(
        channel, method(MethodType.UNARY, path), CallOptions.DEFAULT, request);
  }

  /** A stream of requests, sent without waiting for an answer. */
  static class Stream implements StreamObserver<byte[]> {
    final StreamObserver<byte[]> requests;
    final LinkedBlockingQueue<Object> answers = new LinkedBlockingQueue<>();

    Stream(ManagedChannel channel, String path) {
      requests =
          ClientCalls.asyncBidiStreamingCall(
              channel.newCall(method(MethodType.BIDI_STREAMING, path), CallOptions.DEFAULT), this);
    }

    void send(byte[] message) {
      requests.onNext(message);
    }

    void take(int count) throws Throwable {
      for (int number = 0; number < count; number++) {
        Object answer = answers.poll(60, TimeUnit.SECONDS);
        if (!(answer instanceof byte[])) {
          throw answer instanceof Throwable why ? why : new IOException("no answer: " + answer);
        }
      }
    }

    @Override
    public void onNext(byte[] answer) {
      answers.add(answer);
    }

    @Override
    public void onError(Throwable why) {
      answers.add(why);
    }

    @Override
    public void onCompleted() {
      answers.add("the end");
    }
  }

  static MethodDescriptor<byte[], byte[]> method(MethodType type, String path) {
    MethodDescriptor.Marshaller<byte[]> same =
        new MethodDescriptor.Marshaller<>() {
          @Override
          public InputStream stream(byte[] bytes) {
            return new ByteArrayInputStream(bytes);
          }

          @Override
          public byte[] parse(InputStream stream) {
            try {
              return stream.readAllBytes();
            } catch (IOException why) {
              throw new UncheckedIOException(why);
            }
          }
        };
    return MethodDescriptor.<byte[], byte[]>newBuilder(same, same)
        .setType(type)
        .setFullMethodName(path)
        .build();
  }

  static byte[] key(int number) {
    return field(1, ("key-" + number).getBytes());
  }

  static byte[] field(int number, byte[] value) {
    return all(varint(number << 3 | 2), varint(value.length), value);
  }

  static byte[] field(int number, int value) {
    return all(varint(number << 3), varint(value));
  }

  static byte[] varint(int number) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    for (; number > 127; number >>= 7) {
      bytes.write(number & 127 | 128);
    }
    bytes.write(number);
    return bytes.toByteArray();
  }

  static byte[] all(byte[]... parts) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    for (byte[] part : parts) {
      bytes.writeBytes(part);
    }
    return bytes.toByteArray();
  }
}
