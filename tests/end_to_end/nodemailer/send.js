// Submits the messages that standard input describes as JSON ({transport, messages}), and prints what the server said.
import { createTransport } from "nodemailer";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { transport, messages } = JSON.parse(Buffer.concat(chunks).toString());
const sender = createTransport(transport);
const answers = [];
for (const message of messages) {
    const { accepted, rejected, response } = await sender.sendMail(message);
    answers.push({ accepted, rejected, response });
}
sender.close();
console.log(JSON.stringify(answers));
